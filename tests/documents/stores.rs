//! Documents and queries, the same for both stores.

use crate::client::{ClientError, Comparison, Direction, Documents, Fields, Wanted};
use crate::server::Manners;
use crate::{fields, firestore, one, open_site, surreal};
use serde_json::json;

#[test]
fn documents_come_back_from_both_stores_as_they_were_put() {
    let site = open_site(Manners::default());
    come_back(&mut one(&site, &firestore()));
    come_back(&mut one(&site, &surreal()));
}

fn come_back(client: &mut impl Documents) {
    let document = fields(&json!({
        "text": "Grüße, 世界 🦀 \"quoted\" 'single' \\ back\nnew\u{1} ⟨⟩ `tick` ; DROP",
        "empty": "",
        "number": 17, "largest": i64::MAX, "smallest": i64::MIN, "part": -0.25, "two": 2.0, "huge": 1e300, "tiny": 1.5e-7,
        "yes": true, "no": false, "nothing": null,
        "list": [1, "two", [], {}], "none": [],
        "map": { "inner": { "deep": [null] }, "a key; with \"all\" ⟩ of it": 1 },
        "a field ⟨with⟩ `everything` \\ in it; é": 1,
    }));
    for id in [
        "plain",
        "17",
        "with space",
        "100 %",
        "%2F",
        "a?b#c&d=e+f",
        "ä ö 世界 🦀",
        "⟨a⟩\\⟩`'\"",
        "..a",
        "SELECT",
        "a:b;c",
    ] {
        client.put("things", id, &document).unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(client.get("things", id).unwrap_or_else(|error| panic!("{id}: {error}")), document, "{id}");

        let change = fields(&json!({ "number": 18, "new ⟩ `one`": [true] }));
        client.update("things", id, &change).expect("it is there");
        let mut changed = document.clone();
        changed.extend(change);
        assert_eq!(client.get("things", id).expect("it is there"), changed, "{id}");
        let found = client.find("things", &Wanted::default()).expect("a good query");
        assert_eq!(found, [(id.to_owned(), changed)]);

        client.put("things", id, &fields(&json!({ "only": 1 }))).expect("it is written as a whole");
        assert_eq!(client.get("things", id).expect("it is there"), fields(&json!({ "only": 1 })));
        client.delete("things", id).expect("it is there");
        client.delete("things", id).expect("a second time does no harm");
        assert!(client.find("things", &Wanted::default()).expect("a good query").is_empty());
    }
}

#[test]
fn an_error_names_the_document_that_is_missing() {
    let site = open_site(Manners::default());
    let missing = |client: &mut dyn FnMut() -> Result<(), ClientError>| {
        let error = client().expect_err("it is missing");
        assert!(matches!(error, ClientError::NotFound(_)), "{error:?}");
        error.to_string()
    };
    let change = fields(&json!({ "n": 1 }));
    let mut client = one(&site, &firestore());
    assert_eq!(missing(&mut || client.get("person", "a b").map(drop)), "there is no document person/a b");
    assert_eq!(missing(&mut || client.update("person", "a b", &change)), "there is no document person/a b");
    let mut client = one(&site, &surreal());
    assert_eq!(missing(&mut || client.get("person", "a b").map(drop)), "there is no document person:⟨a b⟩");
    assert_eq!(missing(&mut || client.update("person", "a b", &change)), "there is no document person:⟨a b⟩");
}

#[test]
fn firestore_refuses_an_id_that_it_cannot_have_and_names_it() {
    let site = open_site(Manners::default());
    let mut client = one(&site, &firestore());
    for id in ["a/b", "", ".", "..", "__all__"] {
        let error = client.put("person", id, &Fields::new()).expect_err("no id").to_string();
        assert!(error.ends_with(&format!("(400): INVALID_ARGUMENT: \"{id}\" is no id for a document")), "{error}");
    }
    // To SurrealDB it is an id like others.
    let mut client = one(&site, &surreal());
    client.put("person", "a/b", &Fields::new()).expect("a good id");
    client.get("person", "a/b").expect("it is there");
}

#[test]
fn queries_with_conditions_order_and_limit_find_what_they_should_in_both_stores() {
    let site = open_site(Manners::default());
    find(&mut one(&site, &firestore()));
    find(&mut one(&site, &surreal()));
}

fn find(client: &mut impl Documents) {
    let people: Vec<_> = (0..40_i64)
        .map(|n| {
            let tags: Vec<_> = (0..n % 3).map(|tag| format!("tag{tag}")).collect();
            (format!("p{n:02}"), n * 7 % 20, (f64::from(n as u32 % 7) - 3.0) / 4.0, tags)
        })
        .collect();
    for (id, age, score, tags) in &people {
        let person = json!({ "age": age, "score": score, "name": format!("Name {id}"), "tags": tags });
        client.put("person", id, &fields(&person)).expect("it is written");
    }
    // Without the fields that are asked for, or with values of another kind.
    client.put("person", "nobody", &Fields::new()).expect("it is written");
    client.put("person", "text", &fields(&json!({ "age": "old", "score": "high" }))).expect("it is written");

    let mut ask = |wanted: &Wanted<'_>| -> Vec<String> {
        client.find("person", wanted).expect("a good query").into_iter().map(|(id, _)| id).collect()
    };
    type Holds = fn(&i64, &i64) -> bool;
    let comparisons: [(Comparison, Holds); 5] = [
        (Comparison::Equal, i64::eq),
        (Comparison::Less, i64::lt),
        (Comparison::AtMost, i64::le),
        (Comparison::Greater, i64::gt),
        (Comparison::AtLeast, i64::ge),
    ];
    for (comparison, holds) in comparisons {
        for direction in [Direction::Ascending, Direction::Descending] {
            for limit in [None, Some(0), Some(1), Some(7), Some(100)] {
                let wanted =
                    Wanted { conditions: vec![("age", comparison, json!(11))], order: vec![("age", direction)], limit };
                let mut known: Vec<_> = people.iter().filter(|(_, age, ..)| holds(age, &11)).collect();
                known.sort_by_key(|(_, age, ..)| if direction == Direction::Ascending { *age } else { -age });
                let known = known.into_iter().map(|(id, ..)| id.clone()).take(limit.unwrap_or(u32::MAX) as usize);
                assert_eq!(ask(&wanted), known.collect::<Vec<_>>());
            }
        }
    }
    let wanted = |conditions| Wanted { conditions, order: vec![("score", Direction::Ascending)], limit: Some(3) };
    // Numbers are compared by size, whether they are whole or not.
    let both = vec![("score", Comparison::AtLeast, json!(0)), ("tags", Comparison::Contains, json!("tag1"))];
    let mut known: Vec<_> =
        people.iter().filter(|(.., score, tags)| *score >= 0.0 && tags.contains(&"tag1".to_owned())).collect();
    known.sort_by(|a, b| a.2.total_cmp(&b.2));
    assert_eq!(ask(&wanted(both)), known.iter().take(3).map(|(id, ..)| id.clone()).collect::<Vec<_>>());
    let not = vec![("name", Comparison::NotEqual, json!("Name p00")), ("age", Comparison::Equal, json!(0))];
    assert_eq!(ask(&Wanted { conditions: not, ..Wanted::default() }), ["p20"]);
    let sorted_twice = Wanted {
        conditions: vec![("age", Comparison::AtMost, json!(1))],
        order: vec![("age", Direction::Descending), ("score", Direction::Descending)],
        limit: None,
    };
    assert_eq!(ask(&sorted_twice), ["p03", "p23", "p20", "p00"]);
    let text = vec![("name", Comparison::Equal, json!("x' OR true; DELETE person; --"))];
    assert!(ask(&Wanted { conditions: text, ..Wanted::default() }).is_empty());
    assert_eq!(ask(&Wanted::default()).len(), 42, "and nothing was deleted");
}
