//! What a thread remembers of the pools that it used last: the slot, which it tries first, and a handle of the rack.
//!
//! The handle is why a guard that owns its way home costs no shared reference count. A returner must look at the
//! rack once more after it has published the connection, and by then the connection, with all that it owns, may be
//! with somebody else. The thread's own handle keeps the rack alive for that look; it is cloned when a thread
//! returns its first connection to a pool, not at every return.
//!
//! A rack holds no connection of a closed pool and never a manager, so what a thread keeps back in this way is
//! memory for some slots, until it uses another pool or ends.

use crate::pool::entry::Entry;
use crate::pool::rack::Rack;
use crate::pool::shelf::{Mark, Put};
use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

struct Seat {
    rack: u64,
    slot: u32,
    handle: Option<Arc<dyn Any + Send + Sync>>,
}

/// Enough for a program that uses a reader and a writer pool by turns, or two of those.
const SEATS: usize = 4;

thread_local! {
    static SEATED: RefCell<[Seat; SEATS]> =
        const { RefCell::new([const { Seat { rack: 0, slot: 0, handle: None } }; SEATS]) };
}

/// The slot of this rack that the thread used last.
#[inline]
pub(crate) fn hint(rack: u64) -> u32 {
    SEATED
        .try_with(|seats| match seats.borrow().get(rack as usize % SEATS) {
            Some(seat) if seat.rack == rack => seat.slot,
            _ => 0,
        })
        .unwrap_or(0)
}

/// What is left to do after a connection has been put home: [`Rack::settle`], with the rack to do it on.
pub(crate) type Unsettled<E> = (Put<E>, Arc<Rack<E>>);

/// Puts a connection into its slot, without a reference count if the thread knows the rack.
#[inline]
pub(crate) fn put_home<C, H>(entry: Box<Entry<C, H>>, mark: Mark) -> Option<Unsettled<Entry<C, H>>>
where
    C: Send + 'static,
    H: Send + 'static,
{
    let (rack, slot) = (entry.permit.rack().id, entry.permit.slot());
    let mut homeless = Some(entry);
    let known = SEATED.try_with(|seats| {
        let mut seats = seats.borrow_mut();
        let seat = seats.get_mut(rack as usize % SEATS)?;
        let entry = homeless.take()?;
        if seat.rack != rack || seat.handle.is_none() {
            let handle: Arc<dyn Any + Send + Sync> = Arc::clone(entry.permit.rack()) as _;
            *seat = Seat { rack, slot, handle: Some(handle) };
        }
        seat.slot = slot;
        let handle = seat.handle.as_ref()?;
        let Some(rack) = handle.downcast_ref::<Rack<Entry<C, H>>>() else {
            homeless = Some(entry);
            return None;
        };
        match rack.shelf.put(slot, entry, mark) {
            Put::Done => None,
            other => Some((other, Arc::clone(handle))),
        }
    });
    match known {
        Ok(Some((put, handle))) => handle.downcast().ok().map(|rack| (put, rack)),
        _ => homeless.and_then(|entry| put_home_unseated(entry, slot, mark)),
    }
}

/// The same for a thread whose locals are being destroyed.
#[cold]
fn put_home_unseated<C, H>(entry: Box<Entry<C, H>>, slot: u32, mark: Mark) -> Option<Unsettled<Entry<C, H>>>
where
    C: Send + 'static,
    H: Send + 'static,
{
    let rack = Arc::clone(entry.permit.rack());
    match rack.shelf.put(slot, entry, mark) {
        Put::Done => None,
        other => Some((other, rack)),
    }
}
