-- data_set: purchases
-- A customer's number has five digits; a lost leading zero would split a customer in two.
SELECT DISTINCT customer_id
FROM purchases
WHERE NOT regexp_full_match(customer_id, '[0-9]{5}')
