"""Fakes for tests of your own: imported one by one, so that none needs what another does."""
