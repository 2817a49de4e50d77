"""What scoring does: take in batches, fire timers, fold queued contacts again."""
