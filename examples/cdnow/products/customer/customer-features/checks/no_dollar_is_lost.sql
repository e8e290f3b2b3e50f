-- data_set: spending_summary
-- The quarters of all customers add up to what was sold before the cut-off.
SELECT sold, summed
FROM (SELECT sum(amount) AS sold FROM purchases CROSS JOIN cut_off WHERE purchased_on < cut_off)
CROSS JOIN (SELECT sum(spent_1997_q1 + spent_1997_q2 + spent_1997_q3) AS summed FROM spending_summary)
WHERE sold <> summed
