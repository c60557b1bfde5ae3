use millpond::sqlite::{SqliteManager, SqlitePool};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manager = SqliteManager::file("shop.db").on_first_connect(|conn| {
        conn.execute_batch("CREATE TABLE IF NOT EXISTS item (name TEXT PRIMARY KEY, stock INTEGER NOT NULL)")
    });
    let shop = SqlitePool::new(manager)?;

    shop.write_transaction(|conn| {
        conn.execute("INSERT OR IGNORE INTO item VALUES ('lamp', 17)", [])?;
        conn.execute("UPDATE item SET stock = stock - 1 WHERE name = 'lamp'", [])
    })?;
    let stock: i64 = shop.read_timeout(Duration::from_secs(1), |conn| {
        conn.query_row("SELECT stock FROM item WHERE name = 'lamp'", [], |row| row.get(0))
    })?;
    println!("{stock} lamps");
    Ok(())
}
