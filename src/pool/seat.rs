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
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// Enough for a program that uses a reader and a writer pool by turns, or two of those.
const SEATS: usize = 4;

/// A rack by its number, whatever it holds.
type Handle = Option<(u64, Arc<dyn Any + Send + Sync>)>;

thread_local! {
    /// The rack's number above the slot's. Apart from the handles, because without a destructor it is one load.
    static SLOTS: [Cell<u64>; SEATS] = const { [const { Cell::new(0) }; SEATS] };
    static HANDLES: RefCell<[Handle; SEATS]> = const { RefCell::new([const { None }; SEATS]) };
}

/// The slot of this rack that the thread took from last.
#[inline]
pub(crate) fn hint(rack: u64) -> u32 {
    let last = SLOTS.with(|slots| slots.get(rack as usize % SEATS).map_or(0, Cell::get));
    if last >> 32 == rack & u64::from(u32::MAX) { last as u32 } else { 0 }
}

/// Says which slot it is, when it is another than the hint was.
#[cold]
pub(crate) fn remember(rack: u64, slot: u32) {
    SLOTS.with(|slots| {
        if let Some(seat) = slots.get(rack as usize % SEATS) {
            seat.set(rack << 32 | u64::from(slot));
        }
    });
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
    let (number, slot) = (entry.permit.rack().id, entry.permit.slot());
    if cfg!(shuttle) {
        // All threads of a model share the locals of one real thread, and a handle must not outlive its model.
        return put_home_unseated(entry, slot, mark);
    }
    let mut homeless = Some(entry);
    let known = HANDLES.try_with(|handles| {
        let mut handles = handles.borrow_mut();
        let handle = handles.get_mut(number as usize % SEATS)?;
        let entry = homeless.take()?;
        let rack = match handle {
            Some((known, rack)) if *known == number => rack,
            _ => {
                let rack: Arc<dyn Any + Send + Sync> = Arc::clone(entry.permit.rack()) as _;
                &mut handle.insert((number, rack)).1
            }
        };
        // Racks of the same number are the same rack, so it is of this type.
        match rack.downcast_ref::<Rack<Entry<C, H>>>()?.shelf.put(slot, entry, mark) {
            Put::Done => None,
            other => Some((other, Arc::clone(rack))),
        }
    });
    match known {
        Ok(Some((put, rack))) => rack.downcast().ok().map(|rack| (put, rack)),
        Ok(None) => None,
        Err(_) => homeless.and_then(|entry| put_home_unseated(entry, slot, mark)),
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
