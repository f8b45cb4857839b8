"""``reward-router serve --ray``: the server where one machine is not enough for its reward models.

``places`` says which arm runs where, ``models`` are the deployments of Ray Serve that hold reward
models, ``router`` is the one actor with the ledger, and ``run`` starts all of it and answers HTTP.
Ray comes with the extra ``ray``. Left out: scaling by load, which Ray Serve does where its own
configuration says so, and more than one router on a ledger.
"""
