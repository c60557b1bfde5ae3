//! Data that a user keeps beside a connection.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

/// Values by type that live as long as the connection they were put beside, as in r2d2.
///
/// # Examples
///
/// ```
/// use millpond::{Pool, PooledConnection};
///
/// #[derive(Debug, PartialEq)]
/// struct Tenant(u32);
///
/// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).max_size(1).build()?;
/// let mut conn = pool.get()?;
/// PooledConnection::extensions_mut(&mut conn).insert(Tenant(7));
/// drop(conn);
/// let conn = pool.get()?;
/// assert_eq!(PooledConnection::extensions(&conn).get::<Tenant>(), Some(&Tenant(7)));
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Default)]
pub struct Extensions(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

impl Extensions {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores a value and returns the one of the same type that was there.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) -> Option<T> {
        self.0.insert(TypeId::of::<T>(), Box::new(value)).and_then(|old| old.downcast().ok()).map(|old| *old)
    }

    /// The value of this type.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref()
    }

    /// The value of this type, to change.
    pub fn get_mut<T: Send + Sync + 'static>(&mut self) -> Option<&mut T> {
        self.0.get_mut(&TypeId::of::<T>())?.downcast_mut()
    }

    /// Takes the value of this type out.
    pub fn remove<T: Send + Sync + 'static>(&mut self) -> Option<T> {
        self.0.remove(&TypeId::of::<T>()).and_then(|old| old.downcast().ok()).map(|old| *old)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// A connection's extensions, made when something is first put there. One word, because each connection has it.
#[derive(Debug, Default)]
pub(crate) struct Beside(Option<Box<Extensions>>);

/// What is read of a connection that nobody has put anything beside.
static NOTHING: LazyLock<Extensions> = LazyLock::new(Extensions::new);

impl Beside {
    pub(crate) fn get(&self) -> &Extensions {
        self.0.as_deref().unwrap_or(&NOTHING)
    }

    pub(crate) fn get_mut(&mut self) -> &mut Extensions {
        self.0.get_or_insert_default()
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only how many: what users keep here may be a secret.
        write!(f, "Extensions({} values)", self.0.len())
    }
}
