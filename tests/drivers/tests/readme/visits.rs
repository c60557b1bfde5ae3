use millpond::Pool;
use rusqlite::Connection;
use std::thread;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A closure that opens a connection is enough; a manager that was written for r2d2 will do as well.
    let pool = Pool::builder(|| Connection::open("visits.db")).name("visits").max_size(4).build()?;
    pool.get()?.execute_batch("CREATE TABLE IF NOT EXISTS visit (page TEXT)")?;

    let workers: Vec<_> = (0..8)
        .map(|_| {
            let pool = pool.clone(); // another handle to the same pool
            thread::spawn(move || -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
                let conn = pool.get()?; // waits for 5 s at the most; goes home when it is dropped
                Ok(conn.execute("INSERT INTO visit VALUES ('/')", [])?)
            })
        })
        .collect();
    for worker in workers {
        let rows = worker.join().expect("no panic").expect("a connection, and one row");
        assert_eq!(rows, 1);
    }

    // `with` lends a connection for the length of a closure. The second `?` is SQLite's.
    let visits: i64 = pool.with(|conn| conn.query_row("SELECT count(*) FROM visit", [], |row| row.get(0)))??;
    let stats = pool.stats();
    println!("{visits} visits; {} connections opened, {} checkouts", stats.opened, stats.checkouts);
    Ok(())
}
