-- A shop of three localities: everything of a region lies in partitions of its own.
-- Each statement ends with a line of "--;" so that progress can be shown between them.
CREATE SCHEMA shop;
CREATE TYPE shop.region AS ENUM ('eu', 'us', 'asia');
CREATE TYPE shop.state AS ENUM ('placed', 'paid', 'sent', 'returned');
CREATE SEQUENCE shop.invoice START 1000 INCREMENT 5;
CREATE TABLE shop.products(id int PRIMARY KEY, name text NOT NULL, price numeric(8, 2) NOT NULL, tags jsonb);
CREATE TABLE shop.customers(region shop.region, id int, email text NOT NULL, since date NOT NULL,
    profile jsonb NOT NULL) PARTITION BY LIST (region);
CREATE TABLE shop.orders(region shop.region, id int, customer int NOT NULL, placed timestamptz NOT NULL,
    state shop.state NOT NULL, total numeric(10, 2) NOT NULL) PARTITION BY LIST (region);
CREATE TABLE shop.items(region shop.region, "order" int, line smallint, product int NOT NULL,
    quantity smallint NOT NULL, price numeric(8, 2) NOT NULL) PARTITION BY LIST (region);
CREATE TABLE shop.customers_eu PARTITION OF shop.customers FOR VALUES IN ('eu');
CREATE TABLE shop.customers_us PARTITION OF shop.customers FOR VALUES IN ('us');
CREATE TABLE shop.customers_asia PARTITION OF shop.customers FOR VALUES IN ('asia');
CREATE TABLE shop.orders_eu PARTITION OF shop.orders FOR VALUES IN ('eu');
CREATE TABLE shop.orders_us PARTITION OF shop.orders FOR VALUES IN ('us');
CREATE TABLE shop.orders_asia PARTITION OF shop.orders FOR VALUES IN ('asia');
CREATE TABLE shop.items_eu PARTITION OF shop.items FOR VALUES IN ('eu');
CREATE TABLE shop.items_us PARTITION OF shop.items FOR VALUES IN ('us');
CREATE TABLE shop.items_asia PARTITION OF shop.items FOR VALUES IN ('asia');
--;
INSERT INTO shop.products SELECT i, 'Produkt ' || i || ' – 製品', (i % 997) / 10.0 + 1,
    CASE WHEN i % 3 = 0 THEN jsonb_build_object('colour', 'red', 'sizes', jsonb_build_array(i % 5, i % 7)) END
    FROM generate_series(1, 2000) i;
INSERT INTO shop.customers SELECT r, i, 'c' || i || '@' || r || '.example', date '2020-01-01' + i % 2000,
    jsonb_build_object('news', i % 2 = 0, 'level', i % 9)
    FROM unnest(enum_range(NULL::shop.region)) r, generate_series(1, 20000) i;
--;
INSERT INTO shop.orders SELECT r, i, i % 20000 + 1, timestamptz '2026-01-01 00:00Z' + i * interval '31 seconds',
    (enum_range(NULL::shop.state))[i % 4 + 1], (i % 20011) / 7.0 + 3
    FROM unnest(enum_range(NULL::shop.region)) r, generate_series(1, 100000) i;
--;
INSERT INTO shop.items SELECT r, i / 2 + 1, i % 2, (hashint4(i) & 1023) + 1, i % 4 + 1, (i % 9973) / 10.0
    FROM unnest(enum_range(NULL::shop.region)) r, generate_series(0, 219999 - 20000) i;
INSERT INTO shop.items SELECT r, i + 1, 2, i % 2000 + 1, 1, 9.99
    FROM unnest(enum_range(NULL::shop.region)) r, generate_series(0, 19999) i;
--;
ALTER TABLE shop.customers ADD PRIMARY KEY (region, id);
ALTER TABLE shop.orders ADD PRIMARY KEY (region, id),
    ADD FOREIGN KEY (region, customer) REFERENCES shop.customers (region, id);
ALTER TABLE shop.items ADD PRIMARY KEY (region, "order", line),
    ADD FOREIGN KEY (region, "order") REFERENCES shop.orders (region, id);
CREATE INDEX ON shop.orders (placed);
CREATE UNIQUE INDEX ON shop.customers (region, lower(email));
CREATE INDEX ON shop.products USING gin (tags);
CREATE VIEW shop.turnover AS SELECT region, state, count(*) AS orders, sum(total) AS total
    FROM shop.orders GROUP BY region, state;
COMMENT ON TABLE shop.items IS 'What was ordered: "items", not ''orders''.';
SELECT nextval('shop.invoice'), nextval('shop.invoice');
SELECT lo_from_bytea(4711, decode(repeat('00ff5a', 50000), 'hex'));
ANALYZE;
