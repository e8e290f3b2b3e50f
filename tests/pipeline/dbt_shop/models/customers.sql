select
    c.customer_id,
    c.name,
    count(o.order_id) as orders,
    cast(coalesce(sum(o.amount), 0) as decimal(18, 2)) as spent
from {{ ref('stg_customers') }} as c
left join {{ ref('orders') }} as o using (customer_id)
group by c.customer_id, c.name
