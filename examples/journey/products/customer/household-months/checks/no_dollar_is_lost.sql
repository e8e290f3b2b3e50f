-- data_set: household_months
-- All households of all months add up to all that was sold.
SELECT sold, summed
FROM (SELECT sum(sales_value) AS sold FROM transactions)
CROSS JOIN (SELECT sum(spent) AS summed FROM household_months)
WHERE sold <> summed
