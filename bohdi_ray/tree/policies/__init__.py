"""One file per bandit policy; each implements `policy.Policy`, and `thompson.py` is what they build on."""
