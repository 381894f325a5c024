"""What calls may cost at most: the policy, its accounts in the store, and the question whether one may be raised."""
