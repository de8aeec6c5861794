//! Connection slots, limited in all and for each client. When none is free, the client with the most connections loses the one that has been idle
//! longest. A client that opens thousands of connections closes its own and keeps nobody out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Instant;

use futures::task::AtomicWaker;
use tokio::sync::Notify;

pub struct Slots {
    most: usize,
    most_of_one: usize,
    began: Instant,
    taken: Mutex<TakenSlots>,
    changed: Notify,
}

#[derive(Default)]
struct TakenSlots {
    last: u64,
    all: usize,
    of: HashMap<IpAddr, HashMap<u64, Arc<SlotState>>>,
}

/// Why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Another connection has its slot.
    Evicted,
    /// The router ends.
    ShutDown,
}

struct SlotState {
    /// The marks that it is in use: a WebSocket's begins before that of the answer ends.
    busy: AtomicU32,
    /// Milliseconds since `began` while there is no mark.
    idle_since: AtomicU64,
    end: OnceLock<End>,
    /// Of the task that serves the connection. It looks at every wake-up: a flag costs less than a list of tasks that wait.
    task: AtomicWaker,
}

impl SlotState {
    fn end(&self, why: End) {
        // The first reason counts.
        let _ = self.end.set(why);
        self.task.wake();
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }
}

/// A connection's slot. Freed when dropped.
pub struct Slot {
    slots: Arc<Slots>,
    client: IpAddr,
    number: u64,
    state: Arc<SlotState>,
}

/// Marks a connection as in use: it keeps its slot until this is dropped.
pub struct Busy(Arc<Slot>);

impl Slots {
    pub fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_of_one,
            began: Instant::now(),
            taken: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// A slot for a connection from this address; `None` if all connections that could be closed are in use.
    pub fn take(self: &Arc<Self>, from: IpAddr) -> Option<Arc<Slot>> {
        let client = client(from);
        let state = Arc::new(SlotState {
            busy: AtomicU32::new(0),
            idle_since: AtomicU64::new(self.now()),
            end: OnceLock::new(),
            task: AtomicWaker::new(),
        });
        let mut taken = self.taken();
        if taken.of.get(&client).map_or(0, HashMap::len) >= self.most_of_one {
            taken.evict(client)?;
        } else if taken.all >= self.most {
            let most = taken.of.iter().max_by_key(|(_, slots)| slots.len());
            let most = most.map(|(client, _)| *client)?;
            taken.evict(most)?;
        }
        taken.last += 1;
        taken.all += 1;
        let number = taken.last;
        taken.of.entry(client).or_default().insert(number, state.clone());
        Some(Arc::new(Slot {
            slots: self.clone(),
            client,
            number,
            state,
        }))
    }

    /// Tells all connections that the router ends.
    pub fn shut_down(&self) {
        for state in self.taken().of.values().flat_map(HashMap::values) {
            state.end(End::ShutDown);
        }
    }

    /// Waits until all slots are free.
    pub async fn until_free(&self) {
        loop {
            let changed = self.changed.notified();
            if self.taken().all == 0 {
                return;
            }
            changed.await;
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn taken(&self) -> MutexGuard<'_, TakenSlots> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TakenSlots {
    /// Evicts the client's connection that has been idle longest; `None` if all are in use.
    fn evict(&mut self, client: IpAddr) -> Option<()> {
        let slots = self.of.get(&client)?.iter();
        let idle = slots
            .filter(|(_, state)| !state.is_busy())
            .map(|(number, state)| (state.idle_since.load(Ordering::Relaxed), *number));
        let (_, number) = idle.min()?;
        self.free(client, number)?.end(End::Evicted);
        Some(())
    }

    fn free(&mut self, client: IpAddr, number: u64) -> Option<Arc<SlotState>> {
        let slots = self.of.get_mut(&client)?;
        let state = slots.remove(&number)?;
        self.all -= 1;
        if slots.is_empty() {
            self.of.remove(&client);
        }
        Some(state)
    }
}

impl Slot {
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.state.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    pub fn is_busy(&self) -> bool {
        self.state.is_busy()
    }

    /// Waits until the connection must end. One task waits at a time.
    pub async fn ended(&self) -> End {
        std::future::poll_fn(|cx| {
            self.state.task.register(cx.waker());
            self.state.end.get().map_or(Poll::Pending, |end| Poll::Ready(*end))
        })
        .await
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.taken().free(self.client, self.number);
        self.slots.changed.notify_waiters();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let state = &self.0.state;
        state.idle_since.store(self.0.slots.now(), Ordering::Relaxed);
        state.busy.fetch_sub(1, Ordering::Release);
    }
}

/// The client behind an address. In IPv6 a client is a network, because one host has 2^64 addresses.
fn client(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_evicted(slot: &Slot) -> bool {
        slot.ended().now_or_never() == Some(End::Evicted)
    }

    #[test]
    fn longest_idle_connection_of_the_same_client_is_evicted() {
        let slots = Slots::new(100, 3);
        let [a, b, c] = [0, 1, 2].map(|_| slots.take(address("10.0.0.1")).unwrap());
        let answering = a.busy();
        let d = slots.take(address("10.0.0.1")).unwrap();
        assert_eq!(
            [&a, &b, &c, &d].map(|slot| is_evicted(slot)),
            [false, true, false, false]
        );
        // All are in use.
        let _others = [c.busy(), d.busy()];
        assert!(slots.take(address("10.0.0.1")).is_none());
        assert!(slots.take(address("10.0.0.2")).is_some());
        drop(answering);
        assert!(!a.is_busy());
        assert!(slots.take(address("::ffff:10.0.0.1")).is_some());
        assert!(is_evicted(&a));
    }

    #[test]
    fn a_connection_is_in_use_until_its_last_mark_is_dropped() {
        let slots = Slots::new(1, 1);
        let slot = slots.take(address("10.0.0.1")).unwrap();
        let (answer, websocket) = (slot.busy(), slot.busy());
        drop(answer);
        assert!(slot.is_busy() && slots.take(address("10.0.0.1")).is_none());
        drop(websocket);
        assert!(!slot.is_busy() && slots.take(address("10.0.0.1")).is_some());
    }

    #[tokio::test]
    async fn client_with_the_most_connections_is_evicted() {
        let slots = Slots::new(4, 3);
        let few = slots.take(address("10.0.0.1")).unwrap();
        // A network is one client.
        let many = ["fd00::1", "fd00::2", "fd00::3"].map(|from| slots.take(address(from)).unwrap());
        let another = slots.take(address("10.0.0.2")).unwrap();
        assert!(!is_evicted(&few));
        assert_eq!(many.iter().filter(|slot| is_evicted(slot)).count(), 1);
        assert_eq!(few.ended().now_or_never(), None);
        slots.shut_down();
        assert_eq!(few.ended().now_or_never(), Some(End::ShutDown));
        assert_eq!(slots.until_free().now_or_never(), None);
        drop((few, many, another));
        slots.until_free().await;
    }
}
