//! The table: made if it is not there, and what inserts a row.

use super::Failure;
use super::values::{Column, Kind, Refused};
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, params_from_iter};

/// A table, and those of its columns that the file has.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) columns: Vec<Column>,
    insert: String,
}

impl Target {
    /// Finds the table or makes it. The columns of the file are those of a new table; one that is there has to have them.
    pub(crate) fn prepare(conn: &Connection, table: &str, of_file: Vec<Column>) -> Result<Self, Failure> {
        if of_file.is_empty() {
            return Err("no line has an object with a key, so there are no columns to make a table of".into());
        }
        for (at, column) in of_file.iter().enumerate() {
            if of_file.iter().take(at).any(|other| other.name.eq_ignore_ascii_case(&column.name)) {
                return Err(format!("there are two columns called {:?}", column.name).into());
            }
        }
        let there = columns_of(conn, table)?;
        if there.is_empty() {
            let columns: Vec<_> = of_file.iter().map(definition).collect::<Result<_, _>>()?;
            conn.execute_batch(&format!("CREATE TABLE {} ({})", quoted(table)?, columns.join(", ")))?;
            return Self::new(table, of_file);
        }
        let find = |column: Column| {
            let found = there.iter().find(|other| other.name.eq_ignore_ascii_case(&column.name));
            // The key of an object is found by the file's own spelling.
            found.map(|found| Column { name: column.name.clone(), kind: found.kind }).ok_or_else(|| {
                let names: Vec<_> = there.iter().map(|column| column.name.as_str()).collect();
                format!("the table {table:?} has no column {:?}, but {}", column.name, names.join(", "))
            })
        };
        Self::new(table, of_file.into_iter().map(find).collect::<Result<_, _>>()?)
    }

    fn new(table: &str, columns: Vec<Column>) -> Result<Self, Failure> {
        let names: Vec<_> = columns.iter().map(|column| quoted(&column.name)).collect::<Result<_, _>>()?;
        let places: Vec<_> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
        let (names, places) = (names.join(", "), places.join(", "));
        let insert = format!("INSERT INTO {} ({names}) VALUES ({places})", quoted(table)?);
        Ok(Self { columns, insert })
    }

    pub(crate) fn insert(&self, conn: &Connection, row: &[Value]) -> Result<(), Refused> {
        let done = conn.prepare_cached(&self.insert).and_then(|mut insert| insert.execute(params_from_iter(row)));
        done.map(drop).map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => {
                Refused::Line(error.to_string())
            }
            _ => Refused::Database(error),
        })
    }
}

/// Empty where there is no such table.
fn columns_of(conn: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    let mut query = conn.prepare("SELECT name, type FROM pragma_table_info(?1)")?;
    let column = |row: &rusqlite::Row<'_>| {
        let (name, declared): (String, String) = (row.get(0)?, row.get(1)?);
        let declared = declared.to_ascii_uppercase();
        let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
        // The rules by which SQLite finds the affinity of a column, in its order.
        let kind = match () {
            () if has(&["INT"]) => Kind::Integer,
            () if has(&["CHAR", "CLOB", "TEXT"]) => Kind::Text,
            () if has(&["REAL", "FLOA", "DOUB"]) => Kind::Real,
            () => Kind::Any,
        };
        Ok(Column { name, kind })
    };
    query.query_map([table], column)?.collect()
}

fn definition(column: &Column) -> Result<String, Failure> {
    let kind = match column.kind {
        Kind::Integer => " INTEGER",
        Kind::Real => " REAL",
        Kind::Text => " TEXT",
        Kind::Any => "",
    };
    Ok(format!("{}{kind}", quoted(&column.name)?))
}

/// A name as SQL writes it, whatever is in it.
pub(crate) fn quoted(name: &str) -> Result<String, Failure> {
    if name.is_empty() || name.contains('\0') {
        return Err(format!("{name:?} cannot be the name of a table or a column").into());
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}
