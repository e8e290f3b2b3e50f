select
    p.payment_id,
    p.order_id,
    m.label as method,
    {{ in_currency('p.cents') }} as amount
from {{ source('till', 'payments') }} as p
left join {{ ref('payment_methods') }} as m on m.method = p.method
