//! What a borrower has changed in the session that a rollback does not undo.
//!
//! SQLite asks an authorizer about each thing that a statement does, when the statement is prepared. The one here allows
//! everything and remembers what changes the session. A connection is asked for it by preparing a pragma that SQLite does
//! not know: to SQLite that is nothing, and the authorizer answers by allowing or forbidding it. A cached statement is not
//! prepared again; but a connection on which such a statement was once prepared is not lent again.

use super::limit;
use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A pragma that nobody knows.
const PROBE: &str = "millpond_session";

/// Pragmas that change the session, not the file, when they are given a value.
const OF_THE_SESSION: [&str; 33] = [
    "analysis_limit",
    "automatic_index",
    "busy_timeout",
    "cache_size",
    "cache_spill",
    "case_sensitive_like",
    "cell_size_check",
    "checkpoint_fullfsync",
    "count_changes",
    "defer_foreign_keys",
    "empty_result_callbacks",
    "foreign_keys",
    "full_column_names",
    "fullfsync",
    "ignore_check_constraints",
    "journal_size_limit",
    "legacy_alter_table",
    "locking_mode",
    "max_page_count",
    "mmap_size",
    "query_only",
    "read_uncommitted",
    "recursive_triggers",
    "reverse_unordered_selects",
    "secure_delete",
    "short_column_names",
    "synchronous",
    "temp_store",
    "temp_store_directory",
    "threads",
    "trusted_schema",
    "wal_autocheckpoint",
    "writable_schema",
];

/// How many connections of a manager are open whose session was changed. As long as there are none, none is asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Changed(Arc<AtomicUsize>);

/// What the authorizer of one connection remembers.
struct Memory {
    changed: Changed,
    this: bool,
}

impl Changed {
    /// Begins to watch a connection. What this thread does is part of opening it: callers never open one, except in a pool
    /// without threads.
    /// For a connection that is to read only, what would let it write is forbidden. Nothing is prepared after a deadline: a
    /// short statement is over before SQLite asks whether to go on.
    pub(super) fn watch(&self, conn: &mut Connection, detect: bool, only_reads: bool) -> rusqlite::Result<()> {
        let opener = thread::current().id();
        let mut memory = Memory { changed: self.clone(), this: false };
        // The mutable borrow, and a result where some versions return nothing, suit all versions of rusqlite.
        let set = conn.authorizer(Some(move |context: AuthContext<'_>| {
            if is_probe(&context.action) {
                return if memory.this { Authorization::Deny } else { Authorization::Allow };
            }
            if limit::is_over() || only_reads && sets_query_only(&context.action) {
                return Authorization::Deny;
            }
            if detect && !memory.this && changes_session(&context) && thread::current().id() != opener {
                memory.this = true;
                // Release, so that whoever sees the count has also what was done before: nothing else is told by it.
                memory.changed.0.fetch_add(1, Ordering::Release);
            }
            Authorization::Allow
        }));
        outcome(set)
    }

    /// Whether the session of this connection was changed.
    pub(super) fn is_changed(&self, conn: &Connection) -> bool {
        // Acquire: the borrower has prepared on the thread that returns, or has handed the connection over to it.
        self.0.load(Ordering::Acquire) > 0 && conn.execute_batch(&format!("PRAGMA {PROBE}")).is_err()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.this {
            self.changed.0.fetch_sub(1, Ordering::Release);
        }
    }
}

/// What setting a hook returns, as a result: some versions of rusqlite return nothing.
pub(super) fn outcome(of: impl Into<Outcome>) -> rusqlite::Result<()> {
    of.into().0
}

pub(super) struct Outcome(rusqlite::Result<()>);

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self(Ok(()))
    }
}

impl From<rusqlite::Result<()>> for Outcome {
    fn from(result: rusqlite::Result<()>) -> Self {
        Self(result)
    }
}

fn is_probe(action: &AuthAction<'_>) -> bool {
    matches!(action, AuthAction::Pragma { pragma_name, .. } if *pragma_name == PROBE)
}

fn sets_query_only(action: &AuthAction<'_>) -> bool {
    matches!(action, AuthAction::Pragma { pragma_name, pragma_value: Some(_) } if pragma_name.eq_ignore_ascii_case("query_only"))
}

fn changes_session(context: &AuthContext<'_>) -> bool {
    match &context.action {
        // One without a name is what `VACUUM` attaches, and detaches again.
        AuthAction::Attach { filename } => !filename.is_empty(),
        AuthAction::CreateVtable { .. } => context.database_name == Some("temp"),
        AuthAction::Detach { .. }
        | AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. } => true,
        AuthAction::Pragma { pragma_name, pragma_value: Some(_) } => {
            OF_THE_SESSION.iter().any(|name| name.eq_ignore_ascii_case(pragma_name))
        }
        _ => false,
    }
}
