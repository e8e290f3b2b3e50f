SELECT c.claim_id::BIGINT AS claim_id, c.member_id, p.name AS provider, c.diagnosis, c.day::DATE AS day,
       c.billed::DECIMAL(10, 2) AS billed, c.paid::DECIMAL(10, 2) AS paid
FROM claims_erp AS c JOIN providers AS p ON p.provider_id = c.provider_id
