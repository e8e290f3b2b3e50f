-- One row an article, in the words of the business.
SELECT
    product_id,
    manufacturer_id,
    department,
    brand,
    product_category AS category,
    product_type AS type,
    package_size
FROM articles_raw
ORDER BY product_id
