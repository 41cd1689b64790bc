//! The job, and the files that it is tried on.

use mainstem::prelude::*;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::fmt::Write as _;
use std::path::Path;

/// Countries with their names; there are no customers in the last one.
const COUNTRIES: [(&str, &str); 5] =
    [("de", "Germany"), ("fr", "France"), ("it", "Italy"), ("pl", "Poland"), ("va", "Vatican City")];
/// Categories of products.
const CATEGORIES: [&str; 4] = ["books", "games", "music", "tools"];
/// Products that are generated.
pub const PRODUCTS: u64 = 200;

/// One row of the report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Row {
    /// Name of a country.
    pub country: String,
    /// Category of products, or `-`.
    pub category: String,
    /// Number of orders, or of customers without any.
    pub orders: u64,
    /// What they have paid.
    pub cents: u64,
}

/// The country of a generated customer.
pub fn country(customer: u64) -> &'static str {
    COUNTRIES[(customer % 4) as usize].0
}

/// A generated product: category and price.
pub fn product(id: u64) -> (&'static str, u64) {
    (CATEGORIES[(id % 4) as usize], 100 + id * 37 % 5000)
}

/// A generated order: customer, product and pieces.
pub fn order(i: u64, customers: u64) -> (u64, u64, u64) {
    let mixed = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    // A third of the customers never buys.
    (mixed % customers / 3 * 3, (mixed >> 20) % PRODUCTS, 1 + i % 3)
}

/// Customers for so many orders.
pub fn customers(orders: u64) -> u64 {
    orders / 10 + 3
}

/// Writes the four files.
pub fn generate(dir: &Path, orders: u64) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let customers = customers(orders);
    let write = |name: &str, lines: &mut dyn Iterator<Item = String>| {
        let text = lines.fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        });
        std::fs::write(dir.join(name), text)
    };
    write("countries.csv", &mut COUNTRIES.iter().map(|(code, name)| format!("{code},{name}")))?;
    write("customers.csv", &mut (0..customers).map(|id| format!("{id},{}", country(id))))?;
    write("products.csv", &mut (0..PRODUCTS).map(|id| format!("{id},{},{}", product(id).0, product(id).1)))?;
    write("orders.csv", &mut (0..orders).map(|i| order(i, customers)).map(|(c, p, n)| format!("{c},{p},{n}")))
}

/// The fields of a row.
fn fields<const N: usize>(row: &str) -> Result<[&str; N], String> {
    let fields: Vec<&str> = row.split(',').collect();
    fields.try_into().map_err(|_| format!("'{row}' has not {N} fields"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("'{text}' is not a number"))
}

/// The report over the files of a directory, the largest revenue first.
pub fn report(env: &Environment, dir: &Path) -> DataStream<Row> {
    let read = |name: &str| env.read(TextSource::path(dir.join(name))).name(name);
    let countries = read("countries.csv").try_map(|row| fields(&row).map(|[a, b]| [a, b].map(String::from)));
    let customers = read("customers.csv")
        .try_map(|row| fields(&row).and_then(|[id, country]| Ok((number(id)?, country.to_string()))));
    let products = read("products.csv").try_map(|row| {
        fields(&row).and_then(|[id, category, cents]| Ok((number(id)?, category.to_string(), number(cents)?)))
    });
    let orders = read("orders.csv").try_map(|row| {
        fields(&row).and_then(|[who, what, pieces]| Ok((number(who)?, number(what)?, number(pieces)?)))
    });
    // Customers with the name of their country.
    let customers = customers
        .key_by(|customer| customer.1.clone())
        .join(&countries.key_by(|country| country[0].clone()))
        .broadcast_right()
        .apply_left(|(id, code), country| (*id, country.map_or(code.clone(), |[_, name]| name.clone())))
        .name("customers with countries");
    // Orders with category and price.
    let priced = orders
        .key_by(|order| order.1)
        .join(&products.key_by(|product| product.0))
        .broadcast_right()
        .apply(|order, product| (order.0, product.1.clone(), product.2 * order.2))
        .name("priced orders");
    let by_customer = customers.key_by(|customer| customer.0);
    let bought = by_customer
        .join(&priced.key_by(|order| order.0))
        .apply(|customer, order| (customer.1.clone(), order.1.clone(), order.2));
    let idle = by_customer.join(&priced.key_by(|order| order.0)).anti().name("customers without orders");
    let idle = idle.map(|customer| (customer.1, "-".to_string(), 0));
    let rows =
        bought.union(&[&idle]).key_by(|sale| (sale.0.clone(), sale.1.clone())).reduce_group(|key, sales| {
            let (orders, cents) = sales.fold((0, 0), |(n, sum), sale| (n + 1, sum + sale.2));
            [Row { country: key.0.clone(), category: key.1.clone(), orders, cents }]
        });
    rows.sort_by(|row| (Reverse(row.cents), row.country.clone(), row.category.clone())).name("report")
}
