-- One row a household that answered. The composition is left out: it follows from size and children.
SELECT household_id, age, income, home_ownership, marital_status, household_size, kids_count
FROM questionnaire
ORDER BY household_id
