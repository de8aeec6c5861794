//! Connection slots, limited in all and for each client. When none is free, the client with the most connections loses the one that has been idle
//! longest. A client that opens thousands of connections closes its own and keeps nobody out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// In place of a time: the connection is in use.
const BUSY: u64 = u64::MAX;

pub struct Places {
    most: usize,
    most_of_one: usize,
    began: Instant,
    taken: Mutex<Taken>,
    changed: Notify,
}

#[derive(Default)]
struct Taken {
    last: u64,
    all: usize,
    of: HashMap<IpAddr, HashMap<u64, Arc<Seat>>>,
}

struct Seat {
    /// Milliseconds since `began`, or BUSY.
    idle_since: AtomicU64,
    leave: Notify,
}

/// A connection's slot. Freed when dropped.
pub struct Place {
    places: Arc<Places>,
    client: IpAddr,
    number: u64,
    seat: Arc<Seat>,
}

/// Marks a connection as in use: it keeps its slot until this is dropped.
pub struct Busy(Arc<Place>);

impl Places {
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
    pub fn take(self: &Arc<Self>, from: IpAddr) -> Option<Arc<Place>> {
        let client = client(from);
        let seat = Arc::new(Seat {
            idle_since: AtomicU64::new(self.now()),
            leave: Notify::new(),
        });
        let mut taken = self.taken();
        if taken.of.get(&client).map_or(0, HashMap::len) >= self.most_of_one {
            taken.oust(client)?;
        } else if taken.all >= self.most {
            let most = taken.of.iter().max_by_key(|(_, places)| places.len());
            let most = most.map(|(client, _)| *client)?;
            taken.oust(most)?;
        }
        taken.last += 1;
        taken.all += 1;
        let number = taken.last;
        taken.of.entry(client).or_default().insert(number, seat.clone());
        Some(Arc::new(Place {
            places: self.clone(),
            client,
            number,
            seat,
        }))
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

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Evicts the client's connection that has been idle longest; `None` if all are in use.
    fn oust(&mut self, client: IpAddr) -> Option<()> {
        let places = self.of.get(&client)?.iter();
        let idle = places
            .map(|(number, seat)| (seat.idle_since.load(Ordering::Relaxed), *number))
            .filter(|(since, _)| *since != BUSY);
        let (_, number) = idle.min()?;
        self.free(client, number)?.leave.notify_one();
        Some(())
    }

    fn free(&mut self, client: IpAddr, number: u64) -> Option<Arc<Seat>> {
        let places = self.of.get_mut(&client)?;
        let seat = places.remove(&number)?;
        self.all -= 1;
        if places.is_empty() {
            self.of.remove(&client);
        }
        Some(seat)
    }
}

impl Place {
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.seat.idle_since.store(BUSY, Ordering::Relaxed);
        Busy(self.clone())
    }

    pub fn is_busy(&self) -> bool {
        self.seat.idle_since.load(Ordering::Relaxed) == BUSY
    }

    /// Waits until the slot is evicted.
    pub async fn ousted(&self) {
        self.seat.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().free(self.client, self.number);
        self.places.changed.notify_waiters();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.seat.idle_since.store(self.0.places.now(), Ordering::Relaxed);
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

    fn is_ousted(place: &Place) -> bool {
        place.ousted().now_or_never().is_some()
    }

    #[test]
    fn longest_idle_connection_of_the_same_client_is_evicted() {
        let places = Places::new(100, 3);
        let [a, b, c] = [0, 1, 2].map(|_| places.take(address("10.0.0.1")).unwrap());
        let answering = a.busy();
        let d = places.take(address("10.0.0.1")).unwrap();
        assert_eq!(
            [&a, &b, &c, &d].map(|place| is_ousted(place)),
            [false, true, false, false]
        );
        // All are in use.
        let _others = [c.busy(), d.busy()];
        assert!(places.take(address("10.0.0.1")).is_none());
        assert!(places.take(address("10.0.0.2")).is_some());
        drop(answering);
        assert!(!a.is_busy());
        assert!(places.take(address("::ffff:10.0.0.1")).is_some());
        assert!(is_ousted(&a));
    }

    #[tokio::test]
    async fn client_with_the_most_connections_is_evicted() {
        let places = Places::new(4, 3);
        let few = places.take(address("10.0.0.1")).unwrap();
        // A network is one client.
        let many = ["fd00::1", "fd00::2", "fd00::3"].map(|from| places.take(address(from)).unwrap());
        let another = places.take(address("10.0.0.2")).unwrap();
        assert!(!is_ousted(&few));
        assert_eq!(many.iter().filter(|place| is_ousted(place)).count(), 1);
        assert_eq!(places.until_free().now_or_never(), None);
        drop((few, many, another));
        places.until_free().await;
    }
}
