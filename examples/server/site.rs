//! The service as a whole: from a request to its answer.

use crate::failure::Problem;
use crate::guest_book::GuestBook;
use crate::http::{Answer, Request};
use crate::pages;
use crate::routes::{self, Action, Route};
use crate::scope;
use crate::tally::{Kind, Tally};
use crate::work::{UnderWay, Work};
use millpond::sqlite::SqlitePool;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub(crate) struct Site {
    book: GuestBook,
    deadline: Duration,
    work: Work,
    tally: Tally,
}

/// An answer, not sent yet.
pub(crate) struct Answered<'a> {
    pub(crate) answer: Answer,
    pub(crate) kind: Kind,
    /// Ends when the answer is sent, and not before: a server that ends waits for it.
    pub(crate) _under_way: Option<UnderWay<'a>>,
}

impl Site {
    pub(crate) fn new(book: GuestBook, deadline: Duration) -> Self {
        Self { book, deadline, work: Work::default(), tally: Tally::default() }
    }

    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.book.pool
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(crate) fn work(&self) -> &Work {
        &self.work
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Answers a request; where there are too many clients, only what operators ask for.
    pub(crate) fn answer(&self, request: &Request, crowded: bool) -> Answered<'_> {
        let told = |kind, what: Problem| Answered::without_work(problem(request, &what), kind);
        let (kind, access, read) = match routes::find(request) {
            Ok(Route { kind, action: Action::Work(access, read), .. }) => (kind, access, read),
            Ok(Route { kind, action: Action::Tell(tell), .. }) => return Answered::without_work(tell(self), kind),
            Err(refused) => return told(Kind::Other, Problem::refused(&refused)),
        };
        if crowded {
            return told(kind, Problem::crowded());
        }
        let Some(under_way) = self.work.begin() else { return told(kind, Problem::ending()) };
        let job = match read(request) {
            Ok(job) => job,
            Err(refused) => return told(kind, Problem::refused(&refused)),
        };
        // A panic costs its request and nothing else: the pool closes the connection, and its transaction is rolled back.
        let done =
            catch_unwind(AssertUnwindSafe(|| scope::within(self.pool(), access, self.deadline, || job(&self.book))));
        let answer = match done {
            Ok(Ok(answer)) => answer,
            Ok(Err(failure)) => problem(request, &Problem::of(failure, scope::name_of(self.pool(), access))),
            Err(_panic) => problem(request, &Problem::unexpected()),
        };
        Answered { answer, kind, _under_way: Some(under_way) }
    }

    /// The answer to what could not be read as a request.
    pub(crate) fn refuse(&self, status: u16, message: String) -> Answered<'_> {
        Answered::without_work(pages::problem(&Problem::new(status, "Not understood", message)), Kind::Other)
    }
}

impl Answered<'_> {
    fn without_work(answer: Answer, kind: Kind) -> Self {
        Self { answer, kind, _under_way: None }
    }
}

/// JSON for programs, a page for people.
fn problem(request: &Request, problem: &Problem) -> Answer {
    let mut answer = match request.path().starts_with("/api/") {
        true => Answer::new(problem.status, "application/problem+json", problem.to_json().to_string()),
        false => pages::problem(problem),
    };
    if let Some(seconds) = problem.retry_after {
        answer = answer.with("Retry-After", seconds.to_string());
    }
    match problem.allowed {
        Some(allowed) => answer.with("Allow", allowed),
        None => answer,
    }
}
