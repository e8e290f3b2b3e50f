"""The texts of new meshes and products (`string.Template`), kept apart from what fills them in."""

from __future__ import annotations

MESH = """\
# The settings of this mesh. Everything has a default; environment variables such as TULLE_GATEWAY_PORT win.
# docs/reference/mesh.md has all of them.
# They are read when the mesh starts: after a change `tulle down`, `tulle up`. What is said of policies, tiers, watches
# and alerts is taken up by `tulle gateway reload` as well, while it runs.
name: '$name'
description: A data mesh on one machine

# Where people and programs reach it (on this machine only):
control_plane_port: 8080     # the portal and Tulle's API
gateway_port: 8000           # the services of the products
s3_port: 8333                # the lake, for S3 clients

# Places outside of this folder that repositories of the lake may be made over, import from and export to.
# object_stores: ["s3://my-bucket/prefix/"]

# How much of the machine the runs of a domain may use; give a domain its own bounds under `warehouses:`.
warehouse: {threads: 2, memory: 2GB, concurrent_runs: 2}
# warehouses:
#   sales: {threads: 4, memory: 4GB}

# Where changes are tried before consumers see them, and who agrees; without it there is prod alone, the branch main.
# environments:
#   dev: {fallback: prod}
#   prod: {after: dev, approvers: [ann, bob]}
"""

GITIGNORE = """\
# Everything Tulle writes: databases, data, logs. The rest of this folder is yours and belongs under version control.
.tulle/
"""

README = """\
# $name

A data mesh made with Tulle. What is in this folder is written by people; what Tulle makes of it is in `.tulle/`.

| path | what it is |
|---|---|
| `mesh.yaml` | the settings of the mesh |
| `products/<domain>/<product>/product.yaml` | what a product is: its data sets, ports, service levels and agreements |
| `products/<domain>/<product>/transform/` | a model a file (`.sql` or `.py`), named like the data set it makes |
| `products/<domain>/<product>/checks/` | what must hold before a run is published |
| `products/<domain>/<product>/services/` | endpoints that answer requests from the product's data and models |
| `products/<domain>/<product>/data/` | input files |
| `capabilities/` | component types of your own, composed of existing ones |

    tulle new product orders --domain sales     # a product that runs at once
    tulle validate                              # everything that is wrong, at once, with its place
    tulle plan                                  # what would change
    tulle apply                                 # change it
    tulle run orders                            # bring in data, transform, check, publish
    tulle up                                    # portal and gateway
"""

PRODUCT = """\
# A data product: what it offers, what it reads, and what consumers can hold it to.
# `tulle validate` checks it, `tulle capability show <type>` explains a component type with an example.
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
metadata:
  name: $product      # the product's name in the mesh; it never changes
spec:
  components:

  # Who owns it: the part of the business that knows this data.
  - name: $owning_domain
    type: domain
    properties:
      description: Owns the data products of $domain     # say what it does, in a sentence
      owner: $domain-team@example.org

  # What it is.
  - name: $title
    type: data-product
    properties:
      definition: $definition     # say it in your own words
      data_product_owner: $domain-team@example.org
      data_product_type: $written_kind
      certified: 'No'            # Yes, once you vouch for it
      version: 0.1.0
      classification: internal   # public, internal, confidential or restricted

  # What comes in.
$input_port

  # What the product makes: transform/$data_set.sql. The run publishes it only with these columns; `key` and
  # `required` are checked in every run, as is what checks/$data_set.yaml says.
  - name: $data_set
    type: data-set
    properties:
      description: $row
      columns:
$columns

  # How consumers get it.
  - name: Files port of $name
    type: output-port
    properties:
      description: Parquet files in the product's repository, on its branch main
      data_set: $data_set
      protocol: files

  # What consumers can rely on, and how it is measured: the share of the last 20 days with a refresh, in percent.
  - name: Data is refreshed daily
    type: service-level-asset
    properties:
      description: The data is refreshed at least once a day
      dimension: Freshness
      dimension_domain: Reliability Dimensions
  - name: Daily refresh indicator
    type: service-level-indicator
    properties:
      description: The share of the last 20 days on which the data was refreshed; above 80 it can be trusted
      service_level_name: Data is refreshed daily
      objective: 80
      window_days: 20

  # On which terms it may be used.
  - name: Access instructions
    type: data-sharing-agreement
    properties:
      description: Ask $domain-team@example.org for access
      purpose: Analysis inside the company
"""

FILE_PORT = """\
  - name: Orders file
    type: input-port
    properties:
      description: Orders, one line an order
$note
      source:
        type: file
        path: data/orders.csv      # in this folder; a glob such as data/*.csv and .gz files work too
        format: csv
        columns:
        - {name: order_id, type: string}
        - {name: customer_id, type: string}
        - {name: ordered_on, type: date}
        - {name: amount, type: 'decimal(10,2)'}
      data_set: $rows        # the name these rows have inside this product
"""

UPSTREAM_PORT = """\
  - name: Input from $upstream
    type: input-port
    properties:
      description: The data set $rows of the product $upstream
      product: $upstream
      associated_output_port: $port
      data_set: $rows        # the name these rows have inside this product
"""

ORDERS_CSV = """\
order_id,customer_id,ordered_on,amount
O-1001,C-01,2026-01-05,29.90
O-1002,C-02,2026-01-07,120.00
O-1003,C-01,2026-01-19,15.50
O-1004,C-03,2026-02-02,64.25
O-1005,C-02,2026-02-11,38.00
O-1006,C-04,2026-02-14,99.99
O-1006,C-04,2026-02-14,99.99
O-1007,C-01,2026-03-01,45.10
"""

ORDERS_SQL = """\
-- One file is one model: a single SELECT that makes the data set the file is named like, here $data_set.
-- It reads data sets of this product by name: $rows is what the input port `Orders file` brought in.
-- The file delivers one order twice (O-1006); DISTINCT keeps one, and the product's key is checked in every run.
SELECT DISTINCT
    order_id,
    customer_id,
    ordered_on,
    amount
FROM $rows
"""

PER_CUSTOMER_SQL = """\
-- One file is one model: a single SELECT that makes the data set the file is named like, here $data_set.
-- It reads data sets of this product by name: $rows is what the input port `Orders file` brought in.
-- The file delivers one order twice (O-1006), so each order is counted once.
WITH each_order AS (
    SELECT DISTINCT order_id, customer_id, ordered_on, amount
    FROM $rows
)
SELECT
    customer_id,
    count(*) AS orders,
    CAST(sum(amount) AS DECIMAL(18, 2)) AS spent,
    max(ordered_on) AS last_order_on
FROM each_order
GROUP BY customer_id
"""

UPSTREAM_SQL = """\
-- One file is one model: a single SELECT that makes the data set the file is named like, here $data_set.
-- It reads data sets of this product by name: $rows comes from the product $upstream.
SELECT
$select
FROM $rows_sql$group
"""

CHECKS = """\
# What must hold before a run is published. A failing check of severity `error` leaves the published data as it
# was and shows the rows; `warn` only reports. `required` and `key` of product.yaml are checked without a line here.
checks:
- {data_set: $data_set, type: row_count, min: 1}
- {data_set: $data_set, $check, severity: warn}
"""

SERVICE = """\
# A service answers requests from the product's published data. Deploy it with: tulle service deploy $name
service: $product
description: Looks up one row of $data_set
endpoints:
- name: lookup
  type: lookup
  data_set: $data_set
  key: [$key]$queries
"""
