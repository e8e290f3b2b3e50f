select customer_id, trim(name) as name
from {{ source('till', 'customers') }}
