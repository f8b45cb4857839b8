"""Who judges a batch in training: the arm that was drawn for each unit (``judge``), or a committee that asks in sequence (``committee``)."""
