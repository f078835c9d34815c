"""Gates: quantities, evidence and judgement."""
