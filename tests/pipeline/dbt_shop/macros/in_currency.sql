{% macro in_currency(column) %}cast({{ column }} / {{ var('cents', 100) }} as decimal(18, 2)){% endmacro %}
