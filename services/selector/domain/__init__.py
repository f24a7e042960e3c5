"""The pure selection machine: windows, candidates and verdicts in; highlights and a ledger out."""
