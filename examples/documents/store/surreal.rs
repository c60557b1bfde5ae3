//! The HTTP shape of SurrealDB, <https://surrealdb.com/docs/surrealdb/integration/http>: `POST /sql`, and `/health`.
//!
//! The statements are those of `statement.rs`. An answer holds one entry for each; a statement that fails, or is not
//! known, does not keep the others from running. (The real server refuses a request as a whole, with 400, if it cannot
//! read one of its statements.) Each statement is a transaction of its own.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Map, Value as Json, json};

use super::statement::{self, Change, Id, Statement};
use super::table::{Document, Table, Tables};
use super::value::{Fields, Value};
use crate::server::http::{Answer, Request};

#[derive(Default)]
pub(crate) struct Surreal {
    /// By namespace, database and name of the table.
    tables: Tables<(String, String, String)>,
}

impl Surreal {
    pub(crate) fn answer(&self, request: &Request, admitted: bool) -> Answer {
        if !admitted {
            return failure(401, "Authentication failed", "Your authentication details are invalid.");
        }
        if request.method != "POST" {
            return failure(405, "Requested method not allowed", "statements are sent by POST");
        }
        let Ok(text) = str::from_utf8(&request.body) else {
            return failure(400, "Request problems detected", "the statements are not UTF-8");
        };
        // The headers without a prefix are those of SurrealDB 1.
        let header = |new, old| request.header(new).or_else(|| request.header(old)).filter(|name| !name.is_empty());
        let place = match (header("surreal-ns", "ns"), header("surreal-db", "db")) {
            (None, _) => Err("Specify a namespace to use"),
            (_, None) => Err("Specify a database to use"),
            (Some(namespace), Some(database)) => Ok((namespace, database)),
        };
        let entries: Vec<_> = statement::split(text)
            .into_iter()
            .map(|text| {
                let begin = Instant::now();
                let outcome = place.map_err(str::to_owned).and_then(|(namespace, database)| {
                    let statement = statement::parse(text)?;
                    self.execute(namespace, database, statement)
                });
                let time = format!("{:?}", begin.elapsed());
                match outcome {
                    Ok(result) => json!({ "status": "OK", "time": time, "result": result }),
                    Err(message) => json!({ "status": "ERR", "time": time, "result": message }),
                }
            })
            .collect();
        Answer::json(200, Json::from(entries))
    }

    fn execute(&self, namespace: &str, database: &str, statement: Statement) -> Result<Json, String> {
        let key = |table: &str| (namespace.to_owned(), database.to_owned(), table.to_owned());
        match statement {
            Statement::Return(value) => Ok(value.to_json()),
            Statement::Select { fields, source, query } => {
                let row = |(id, document): (&String, &Document)| shown(source.table(), id, document, fields.as_deref());
                Ok(self.tables.read(&key(source.table()), |table| {
                    query.select(table.range::<str, _>(source.range())).into_iter().map(row).collect()
                }))
            }
            Statement::Write { change, id, fields } => {
                self.tables.write(key(&id.table), |table| write(table, change, &id, fields))
            }
            Statement::Delete { source, query } => self.tables.write(key(source.table()), |table| {
                let chosen = query.select(table.range::<str, _>(source.range()));
                let chosen: BTreeSet<_> = chosen.into_iter().map(|(id, _)| id.clone()).collect();
                table.retain(|id, _| !chosen.contains(id));
                // What was deleted is not told, unless somebody asks with RETURN BEFORE, which is not known here.
                Ok(json!([]))
            }),
        }
    }
}

fn write(table: &mut Table, change: Change, id: &Id, fields: Fields) -> Result<Json, String> {
    let existing = table.get_mut(&id.id);
    let document = match (change, existing) {
        (Change::Create, Some(_)) => return Err(format!("Database record `{id}` already exists")),
        // As in SurrealDB 2, where UPDATE makes nothing and UPSERT does.
        (Change::Update { .. }, None) => return Ok(json!([])),
        (Change::Update { merge: true }, Some(document)) => {
            document.fields.extend(fields);
            document
        }
        (_, Some(document)) => {
            document.fields = fields;
            document
        }
        (_, None) => table.entry(id.id.clone()).or_insert(Document { fields, ..Document::default() }),
    };
    Ok(json!([shown(&id.table, &id.id, document, None)]))
}

/// A record as plain JSON: all of it, or these fields, of which those that it lacks are null.
fn shown(table: &str, id: &str, document: &Document, only: Option<&[String]>) -> Json {
    let whole = Id { table: table.to_owned(), id: id.to_owned() }.to_string();
    let of = |name: &str| match name {
        "id" => Json::from(whole.as_str()),
        _ => document.fields.get(name).map_or(Json::Null, Value::to_json),
    };
    let names = document.fields.keys().map(String::as_str).chain(["id"]);
    let shown: Map<_, _> = match only {
        None => names.map(|name| (name.to_owned(), of(name))).collect(),
        Some(only) => only.iter().map(|name| (name.clone(), of(name))).collect(),
    };
    Json::from(shown)
}

fn failure(code: u16, details: &str, information: &str) -> Answer {
    Answer::json(code, json!({ "code": code, "details": details, "information": information }))
}
