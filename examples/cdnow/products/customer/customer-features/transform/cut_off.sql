-- The day before which everything is known and from which everything is to be predicted: the one place it is written.
SELECT DATE '1997-10-01' AS cut_off
