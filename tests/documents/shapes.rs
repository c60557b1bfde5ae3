//! What stands in requests and answers, and what bad input gets.

use crate::client::surreal::id_within;
use crate::server::Manners;
use crate::{ask, one, open_site, surreal};
use serde_json::json;

const DOCUMENT: &str = "/v1/projects/p/databases/(default)/documents/person/ada";
const QUERY: &str = "/v1/projects/p/databases/(default)/documents:runQuery";
const PLACE: [(&str, &str); 2] = [("surreal-ns", "n"), ("surreal-db", "d")];

#[test]
fn firestore_answers_in_the_shapes_of_its_rest_interface() {
    let site = open_site(Manners::default());
    let body = r#"{"fields":{"name":{"stringValue":"Ada"},"n":{"integerValue":"17"}}}"#;
    let (status, written) = ask(&site, "PATCH", DOCUMENT, &[], body);
    assert_eq!(status, 200);
    assert_eq!(written["name"], "projects/p/databases/(default)/documents/person/ada");
    assert_eq!(written["fields"], json!({ "name": { "stringValue": "Ada" }, "n": { "integerValue": "17" } }));
    let time = written["createTime"].as_str().expect("a time");
    assert!(
        time.len() == "2026-01-01T00:00:00.000000Z".len() && time.starts_with("20") && time.ends_with('Z'),
        "{time}"
    );
    assert_eq!(ask(&site, "GET", DOCUMENT, &[], ""), (200, written.clone()));

    let masked = format!("{DOCUMENT}?updateMask.fieldPaths=n&updateMask.fieldPaths=name");
    let (status, changed) = ask(&site, "PATCH", &masked, &[], r#"{"fields":{"n":{"integerValue":"18"}}}"#);
    assert_eq!(
        (status, &changed["fields"]),
        (200, &json!({ "n": { "integerValue": "18" } })),
        "what is masked and absent goes"
    );
    assert_eq!(changed["createTime"], written["createTime"]);

    let query = json!({ "structuredQuery": {
        "from": [{ "collectionId": "person" }],
        "where": { "fieldFilter": { "field": { "fieldPath": "n" }, "op": "GREATER_THAN", "value": { "integerValue": "17" } } },
        "orderBy": [{ "field": { "fieldPath": "n" }, "direction": "DESCENDING" }],
        "limit": 10
    } });
    let (status, rows) = ask(&site, "POST", QUERY, &[], &query.to_string());
    assert_eq!((status, &rows[0]["document"]), (200, &changed));
    assert!(rows[0]["readTime"].is_string());

    assert_eq!(ask(&site, "DELETE", DOCUMENT, &[], ""), (200, json!({})));
    let (status, rows) = ask(&site, "POST", QUERY, &[], &query.to_string());
    assert!(status == 200 && rows[0]["readTime"].is_string() && rows[0].get("document").is_none(), "{rows}");
}

#[test]
fn bad_input_gets_an_error_in_firestores_shape_that_names_field_and_value() {
    let site = open_site(Manners::default());
    let refused = |method, path: &str, body: &str, expected: (u16, &str), part: &str| {
        let (status, answer) = ask(&site, method, path, &[], body);
        let error = &answer["error"];
        assert_eq!((status, error["status"].as_str()), (expected.0, Some(expected.1)), "{body}: {answer}");
        assert_eq!(error["code"], status);
        assert!(error["message"].as_str().expect("a text").contains(part), "{answer}");
    };
    let invalid = (400, "INVALID_ARGUMENT");
    let absent = (501, "UNIMPLEMENTED");
    refused("PATCH", DOCUMENT, r#"{"fields":"#, invalid, "Invalid JSON payload received.");
    refused("PATCH", DOCUMENT, "", invalid, "Invalid JSON payload received.");
    refused("PATCH", DOCUMENT, &"[".repeat(100_000), invalid, "Invalid JSON payload received.");
    refused("PATCH", DOCUMENT, r#"{"feilds":{}}"#, invalid, r#""feilds""#);
    refused("PATCH", DOCUMENT, r#"{"fields":[1]}"#, invalid, "fields is no object");
    refused("PATCH", DOCUMENT, r#"{"fields":{"n":17}}"#, invalid, "fields.n: 17");
    refused(
        "PATCH",
        DOCUMENT,
        r#"{"fields":{"n":{"integerValue":"1x"}}}"#,
        invalid,
        r#"fields.n: {"integerValue":"1x"}"#,
    );
    refused("PATCH", DOCUMENT, r#"{"fields":{"n":{"numberValue":1}}}"#, invalid, "fields.n");
    let list = r#"{"fields":{"l":{"arrayValue":{"values":[{"nullValue":null},{"x":1}]}}}}"#;
    refused("PATCH", DOCUMENT, list, invalid, "fields.l[1]");
    refused("PATCH", DOCUMENT, r#"{"fields":{"t":{"timestampValue":"now"}}}"#, absent, "fields.t");
    refused("PATCH", &format!("{DOCUMENT}?mask=1"), "{}", invalid, r#""mask""#);
    refused("PATCH", &format!("{DOCUMENT}?updateMask.fieldPaths=a.b"), "{}", absent, r#""a.b""#);
    refused("GET", DOCUMENT, "", (404, "NOT_FOUND"), "documents/person/ada\" not found");
    refused("GET", &format!("{DOCUMENT}/more/x"), "", absent, "subcollections");
    refused("GET", "/v1/nowhere", "", (404, "NOT_FOUND"), "/v1/nowhere");
    refused("PUT", DOCUMENT, "", (405, "UNIMPLEMENTED"), "PUT");

    let query = |members: &str| format!(r#"{{"structuredQuery":{{"from":[{{"collectionId":"c"}}]{members}}}}}"#);
    let filter = |op: &str| {
        let filter = format!(r#"{{"field":{{"fieldPath":"n"}},"op":"{op}","value":{{"nullValue":null}}}}"#);
        query(&format!(r#","where":{{"fieldFilter":{filter}}}"#))
    };
    refused("POST", QUERY, "{}", invalid, "structuredQuery");
    refused("POST", QUERY, r#"{"structuredQuery":{"from":[]}}"#, invalid, "from");
    refused("POST", QUERY, &query(r#","limit":-1"#), invalid, "limit has to be a whole number from 0 on: -1");
    refused("POST", QUERY, &query(r#","limt":1"#), invalid, r#""limt""#);
    refused("POST", QUERY, &query(r#","select":{}"#), absent, "select");
    refused("POST", QUERY, &query(r#","orderBy":[{"field":{"fieldPath":"n"},"direction":"UP"}]"#), invalid, "UP");
    refused("POST", QUERY, &query(r#","orderBy":[{"field":{"fieldPath":"1n"}}]"#), invalid, r#""1n""#);
    refused("POST", QUERY, &query(r#","where":{"unaryFilter":{}}"#), absent, "unaryFilter");
    refused("POST", QUERY, &query(r#","where":{"compositeFilter":{"op":"OR"}}"#), absent, "OR");
    refused("POST", QUERY, &filter("LIKE"), absent, "LIKE");
    assert_eq!(ask(&site, "POST", QUERY, &[], &filter("EQUAL")).0, 200);

    let (status, answer) = ask(&site, "GET", DOCUMENT, &[("Authorization", "Bearer other")], "");
    assert_eq!((status, &answer["error"]["status"]), (401, &json!("UNAUTHENTICATED")));
}

#[test]
fn surrealdb_answers_each_statement_in_turn() {
    let site = open_site(Manners::default());
    let statements = "CREATE person:1 CONTENT { name: 'Ada', age: 36, tags: ['first',] };
        CREATE person:2 CONTENT {\"name\": \"Bob; semi\", \"age\": 51};
        CREATE person:three CONTENT { age: 12 };
        SELECT * FROM person WHERE age > 30 ORDER BY age LIMIT 10;
        select name, missing from person:2;
        UPDATE person:1 MERGE { age: 37 };
        UPDATE person:4 CONTENT { age: 1 };
        SELECT * FROM person WHERE age >= 12 AND name = 'Ada' ORDER age DESC LIMIT 1 START 0;
        DELETE person WHERE age < 20; DELETE person:2; SELECT * FROM person; SELECT * FROM nothing;
        RETURN [1.5, -2, true, NONE, \"\\u00e9\\ud83e\\udd80\"]";
    let (status, answer) = ask(&site, "POST", "/sql", &PLACE, statements);
    assert_eq!(status, 200);
    let entries = answer.as_array().expect("an array");
    assert!(entries.iter().all(|entry| entry["status"] == "OK" && entry["time"].is_string()), "{answer}");
    let results: Vec<_> = entries.iter().map(|entry| &entry["result"]).collect();
    let ada = |age| json!({ "id": "person:1", "name": "Ada", "age": age, "tags": ["first"] });
    let bob = json!({ "id": "person:2", "name": "Bob; semi", "age": 51 });
    let expected = [
        json!([ada(36)]),
        json!([bob]),
        json!([{ "id": "person:three", "age": 12 }]),
        json!([ada(36), bob]),
        json!([{ "name": "Bob; semi", "missing": null }]),
        json!([ada(37)]),
        json!([]),
        json!([ada(37)]),
        json!([]),
        json!([]),
        json!([ada(37)]),
        json!([]),
        json!([1.5, -2, true, null, "é🦀"]),
    ];
    assert_eq!(results, expected.iter().collect::<Vec<_>>());

    let older = [("NS", "n"), ("DB", "d")];
    let (_, answer) = ask(&site, "POST", "/sql", &older, "SELECT * FROM person");
    assert_eq!(answer[0]["result"], json!([ada(37)]), "the older headers name the same place");
    let elsewhere = [("surreal-ns", "n"), ("surreal-db", "other")];
    assert_eq!(ask(&site, "POST", "/sql", &elsewhere, "SELECT * FROM person").1[0]["result"], json!([]));
}

#[test]
fn a_statement_that_is_not_known_is_an_error_of_its_own() {
    let site = open_site(Manners::default());
    let (status, answer) = ask(&site, "POST", "/sql", &PLACE, "RETURN 1; FROBNICATE person; RETURN 2");
    assert_eq!(status, 200);
    assert_eq!((&answer[0]["result"], &answer[2]["result"]), (&json!(1), &json!(2)), "the others run");
    assert_eq!(answer[1]["status"], "ERR");
    let expected =
        "Parse error: unexpected `FROBNICATE`, expected one of CREATE, UPSERT, UPDATE, SELECT, DELETE, RETURN";
    assert_eq!(answer[1]["result"], expected);

    for (statement, part) in [
        ("SELECT * person", "unexpected `person`, expected FROM"),
        ("SELECT * FROM person WHERE age LIKE 1", "unexpected `LIKE`, expected a comparison"),
        ("SELECT * FROM person WHERE age > 1 OR age < 0", "unexpected `OR`"),
        ("SELECT * FROM person LIMIT -1", "unexpected `-1`, expected a whole number"),
        ("SELECT * FROM person LIMIT 99999999999999999999", "a whole number"),
        ("CREATE person CONTENT {}", "a record id, as in person:1"),
        ("CREATE person: CONTENT {}", "unexpected `{`"),
        ("CREATE person:1 CONTENT [1]", "Can not use [1] in a CONTENT clause"),
        ("CREATE person:1 CONTENT { a: 1", "unexpected end of the statement"),
        ("CREATE person:1 CONTENT { a 1 }", "expected `:`"),
        ("RETURN 'open", "`'` is missing"),
        ("RETURN 1e999", "1e999 is no number"),
        ("RETURN 1.2.3", "unexpected `1.2.3`"),
        ("RETURN '\\ud800'", "\\ud800 is no character"),
        ("RETURN '\\u12'", "four hexadecimal digits"),
        ("RETURN (1)", "unexpected `(`"),
        ("RETURN 1 2", "expected the end of the statement"),
    ] {
        let (status, answer) = ask(&site, "POST", "/sql", &PLACE, statement);
        let text = answer[0]["result"].as_str().expect("a text");
        assert!(status == 200 && answer[0]["status"] == "ERR" && text.contains(part), "{statement}: {answer}");
    }
    let deep = format!("RETURN {}", "[".repeat(100_000));
    let (_, answer) = ask(&site, "POST", "/sql", &PLACE, &deep);
    assert_eq!(answer[0]["result"], "Parse error: values are nested more than 64 deep");

    let mut client = one(&site, &surreal());
    client.sql("CREATE person:1 CONTENT {}").expect("it is new");
    let error = client.sql("CREATE person:1 CONTENT {}").expect_err("it is there");
    assert_eq!(error.to_string(), "POST /sql was refused (200): Database record `person:1` already exists");
}

#[test]
fn surrealdb_wants_to_know_who_asks_and_where() {
    let site = open_site(Manners::default());
    assert_eq!(ask(&site, "POST", "/sql", &[], "RETURN 1").1[0]["result"], "Specify a namespace to use");
    assert_eq!(ask(&site, "POST", "/sql", &[("NS", "n")], "RETURN 1").1[0]["result"], "Specify a database to use");
    let (status, answer) = ask(&site, "POST", "/sql", &[("Authorization", "Basic other")], "RETURN 1");
    assert_eq!((status, &answer["details"]), (401, &json!("Authentication failed")));
    assert_eq!(ask(&site, "GET", "/sql", &PLACE, "").0, 405);
    assert_eq!(ask(&site, "GET", "/elsewhere", &[], "").0, 404);
}

#[test]
fn record_ids_are_understood_in_the_quotes_of_older_and_newer_servers() {
    for (record, id) in [
        ("person:1", Some("1")),
        ("person:⟨a b:c⟩", Some("a b:c")),
        ("⟨my:table⟩:⟨a\\⟩`\\\\⟩", Some("a⟩`\\")),
        ("`my:table`:`a\\`⟨b⟩`", Some("a`⟨b⟩")),
        ("person", None),
    ] {
        assert_eq!(id_within(record).as_deref(), id, "{record}");
    }
}
