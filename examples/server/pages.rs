//! What people see. The markup escapes whatever is put into it, because it is made as elements and not as text.

use crate::failure::Problem;
use crate::guest_book::{Entry, Excerpt, LONGEST_NAME, LONGEST_TEXT, SOME};
use crate::http::Answer;
use maud::{DOCTYPE, Markup, html};

/// No script at all, nothing from elsewhere, and forms to nobody else.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const STYLE: &str = "
    :root { color-scheme: light dark; font: 17px/1.5 system-ui, sans-serif }
    body { max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
    input, textarea { box-sizing: border-box; width: 100%; font: inherit; padding: .4rem; margin-bottom: .6rem }
    button { font: inherit; padding: .3rem 1.2rem }
    article { border-top: 1px solid #8886; padding: .6rem 0 }
    article p { margin: .2rem 0; white-space: pre-wrap; overflow-wrap: anywhere }
    footer, small { color: #777 }
";

pub(crate) fn style() -> Answer {
    Answer::new(200, "text/css; charset=utf-8", STYLE).with("Cache-Control", "max-age=3600")
}

pub(crate) fn home(excerpt: &Excerpt) -> Answer {
    let rest = excerpt.entries.last().filter(|_| excerpt.entries.len() == SOME as usize);
    page(
        200,
        "Guest book",
        &html! {
            p { "Entries: " (excerpt.total) ". Guests: " (excerpt.guests) "." }
            form method="post" action="/entries" {
                label { "Name" input name="name" required maxlength=(LONGEST_NAME); }
                label { "Text" textarea name="text" rows="3" required maxlength=(LONGEST_TEXT) {} }
                button { "Write" }
            }
            @for entry in &excerpt.entries { (article(entry)) }
            @if let Some(last) = rest { p { a href=(format!("/?before={}", last.id)) { "Older ones" } } }
        },
    )
}

pub(crate) fn entry(entry: &Entry) -> Answer {
    page(200, "An entry", &html! { (article(entry)) p { a href="/" { "All entries" } } })
}

pub(crate) fn problem(problem: &Problem) -> Answer {
    page(problem.status, problem.title, &html! { p { (problem.detail) } p { a href="/" { "All entries" } } })
}

fn article(entry: &Entry) -> Markup {
    html! {
        article {
            strong { (entry.name) } " "
            small { a href=(format!("/entries/{}", entry.id)) { (entry.written) " UTC" } }
            p { (entry.text) }
        }
    }
}

fn page(status: u16, title: &str, content: &Markup) -> Answer {
    let text = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (title) }
                link rel="stylesheet" href="/style.css";
            }
            body {
                h1 { (title) }
                (content)
                footer { "An example of the crate millpond" }
            }
        }
    };
    Answer::new(status, "text/html; charset=utf-8", text.into_string())
        .with("Content-Security-Policy", POLICY)
        .with("X-Content-Type-Options", "nosniff")
}
