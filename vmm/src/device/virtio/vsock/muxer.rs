//! All connections between the host's sockets and the guest's: who is connected, who has something to say, and who gets
//! which packet. It knows sockets and packets, and no queue.
//!
//! Every socket is watched for edges, so nothing is asked of epoll when a connection changes its mind: an edge sets a
//! flag in its connection, and only "would block" clears it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use super::super::{Broken, Chain};
use super::connection::{BUFFER, Connection, PATIENCE};
use super::host::{Asked, Client, Error, Host};
use super::packet::{HEADER, HOST_CID, Header, NO_PORT, Ports, STREAM, op};
use super::ready::Ready;
use super::timer::Timer;
use crate::descriptors;
use crate::memory::GuestRam;
use crate::repeated::Repeated;

/// The most connections, with host programs that have not said yet which port they want. Fewer where the process may not
/// have the descriptors.
pub(super) const MOST_CONNECTIONS: usize = 1023;
/// The most RSTs for packets that belong to no connection. No packet is taken while so many wait.
pub(super) const MOST_RESETS: usize = 256;
/// Events, and host programs, that are heard at a time.
const BATCH: usize = 64;
/// When it is tried again to accept a host program that could not be accepted: not sooner, whatever is heard meanwhile.
const AGAIN: Duration = Duration::from_secs(1);
/// The ports that host programs are given: those of the upper half are for whom the guest calls.
const HOST_PORTS: std::ops::Range<u32> = 1 << 30..1 << 31;

/// Descriptors as epoll knows them. A connection's ports are its own; those with the guest's port [`NO_PORT`] are no
/// connection's.
const LISTENER: u64 = token(Ports { host: NO_PORT, guest: NO_PORT });
const TIMER: u64 = token(Ports { host: NO_PORT - 1, guest: NO_PORT });

const fn token(ports: Ports) -> u64 {
    (ports.host as u64) << 32 | ports.guest as u64
}

/// An RST that the guest is owed for a packet that belongs to no connection, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reset {
    /// The context that the guest took itself to speak to.
    pub cid: u64,
    pub kind: u16,
    pub ports: Ports,
}

/// The connections.
#[derive(Debug)]
pub(super) struct Muxer {
    // Configuration.
    cid: u32,
    /// The most connections of this process.
    most: usize,
    // Connections.
    host: Host,
    ready: Option<Ready>,
    epoll: OwnedFd,
    timer: Timer,
    /// Somebody may wait to be accepted.
    is_knocked: bool,
    /// Until then nobody is accepted, because it failed.
    closed_until: Option<Instant>,
    /// How often accepting has failed, and how often there were too many connections to accept another.
    failures: Repeated,
    full: Repeated,
    /// By the port of the host's that each will have.
    clients: BTreeMap<u32, Client>,
    next_port: u32,
    // Guest-visible state, of which the fact that there was a connection is all that outlives this process.
    connections: BTreeMap<Ports, Connection>,
    /// Those that may have something to say, each at most once.
    line: VecDeque<Ports>,
    resets: VecDeque<Reset>,
}

impl Muxer {
    pub(super) fn new(
        cid: u32,
        host: Host,
        ready: Option<Ready>,
        resets: VecDeque<Reset>,
    ) -> Result<Self, Error> {
        let set_up = |errno: rustix::io::Errno| Error::SetUp(errno.into());
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(set_up)?;
        let timer = Timer::new().map_err(set_up)?;
        watch(&epoll, host.listener(), LISTENER).map_err(set_up)?;
        watch(&epoll, timer.fd(), TIMER).map_err(set_up)?;
        Ok(Self {
            cid,
            most: descriptors::for_connections(MOST_CONNECTIONS),
            host,
            ready,
            epoll,
            timer,
            is_knocked: true,
            closed_until: None,
            failures: Repeated::default(),
            full: Repeated::default(),
            clients: BTreeMap::new(),
            next_port: HOST_PORTS.start,
            connections: BTreeMap::new(),
            line: VecDeque::new(),
            resets,
        })
    }

    pub(super) fn cid(&self) -> u32 {
        self.cid
    }

    pub(super) fn ready(&self) -> Option<&Ready> {
        self.ready.as_ref()
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Readable when [`Self::hear`] has something to hear.
    pub(super) fn epoll(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Every RST that a guest is owed that goes on without this process's connections.
    pub(super) fn owed_resets(&self) -> Vec<Reset> {
        let open = self.connections.iter().filter(|(_, connection)| connection.guest_knows());
        let of_open = open.map(|(ports, _)| Reset { cid: HOST_CID, kind: STREAM, ports: *ports });
        self.resets.iter().copied().chain(of_open).collect()
    }

    /// Forgets everybody, as the guest has.
    pub(super) fn forget(&mut self) {
        self.clients.clear();
        self.connections.clear();
        self.line.clear();
        self.resets.clear();
        self.is_knocked = true;
        self.closed_until = None;
    }

    /// Whether a packet of the guest's may be taken: there is room for an answer.
    pub(super) fn has_room(&self) -> bool {
        self.resets.len() < MOST_RESETS
    }

    /// Whether there may be a packet for the guest.
    pub(super) fn has_packet(&self) -> bool {
        !self.resets.is_empty() || !self.line.is_empty()
    }

    /// Sees to it that [`Self::epoll`] is readable at `at`.
    pub(super) fn wake_at(&mut self, at: Instant, now: Instant) {
        self.timer.arm(at, now);
    }

    /// Hears what the sockets and the clock have to say, a batch at a time. Whether there may be more to be heard at
    /// once. Nobody is accepted unless the door `is_open`.
    pub(super) fn hear(&mut self, is_open: bool, now: Instant) -> bool {
        let mut events = Vec::with_capacity(BATCH);
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Only a signal interrupts it, and then it is asked again.
        let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&zero));
        for event in &events {
            self.hear_event(event.data.u64(), event.flags, now);
        }
        let accepted = if is_open { self.accept(now) } else { 0 };
        events.len() == BATCH || accepted == BATCH
    }

    fn hear_event(&mut self, token: u64, flags: epoll::EventFlags, now: Instant) {
        use epoll::EventFlags as F;
        let ports = Ports { host: (token >> 32) as u32, guest: token as u32 };
        match token {
            LISTENER => self.is_knocked = true,
            TIMER => self.expire(now),
            _ if ports.guest == NO_PORT => self.hear_client(ports.host, now),
            _ => {
                let Some(connection) = self.connections.get_mut(&ports) else { return };
                let is_readable = flags.intersects(F::IN | F::RDHUP | F::HUP | F::ERR);
                let is_writable = flags.intersects(F::OUT | F::HUP | F::ERR);
                connection.far_ready(is_readable, is_writable, flags.intersects(F::HUP | F::ERR));
                self.settle(ports, now);
            }
        }
    }

    /// Ends what has taken too long, and sets the clock for what has time left.
    fn expire(&mut self, now: Instant) {
        self.timer.heard();
        if let Some(ready) = &mut self.ready {
            ready.look(now);
        }
        self.clients.retain(|_, client| client.deadline > now);
        if let Some(until) = self.closed_until.filter(|until| *until > now) {
            self.timer.arm(until, now);
        }
        let late = |(ports, connection): (&Ports, &Connection)| {
            connection.deadline.is_some_and(|deadline| deadline <= now).then_some(*ports)
        };
        for ports in self.connections.iter().filter_map(late).collect::<Vec<_>>() {
            if let Some(connection) = self.connections.get_mut(&ports) {
                connection.expire(now);
            }
            self.settle(ports, now);
        }
        let clients = self.clients.values().map(|client| client.deadline);
        let ready = self.ready.as_ref().and_then(Ready::due);
        let connections = self.connections.values().filter_map(|connection| connection.deadline);
        let next = clients.chain(connections).chain(ready).min();
        if let Some(next) = next {
            self.timer.arm(next, now);
        }
    }

    /// Accepts a batch of host programs; how many there were. Who finds no place waits in the socket's backlog.
    fn accept(&mut self, now: Instant) -> usize {
        if self.closed_until.is_some_and(|until| now < until) {
            return 0;
        }
        self.closed_until = None;
        for accepted in 0..BATCH {
            if !self.is_knocked || !self.may_accept() {
                return accepted;
            }
            match self.host.accept() {
                Ok(Some(stream)) => self.admit(stream, now),
                Ok(None) => self.is_knocked = false,
                Err(error) => {
                    if let Some(times) = self.failures.again() {
                        tracing::warn!(%error, times, "cannot accept a host program's vsock connection; trying again");
                    }
                    self.closed_until = Some(now + AGAIN);
                    self.timer.arm(now + AGAIN, now);
                    return accepted;
                }
            }
        }
        BATCH
    }

    fn may_accept(&mut self) -> bool {
        let may = self.has_place();
        if !may && let Some(times) = self.full.again() {
            tracing::warn!(
                most = self.most,
                times,
                "host programs wait for one of the vsock connections to end"
            );
        }
        may
    }

    fn admit(&mut self, stream: UnixStream, now: Instant) {
        let Some(port) = self.free_port() else { return };
        if let Err(error) = watch(&self.epoll, stream.as_fd(), token(Ports { host: port, guest: NO_PORT })) {
            if let Some(times) = self.failures.again() {
                tracing::warn!(%error, times, "a host program's vsock connection cannot be watched; it is closed");
            }
            return;
        }
        let deadline = now + PATIENCE;
        self.timer.arm(deadline, now);
        self.clients.insert(port, Client { stream, deadline });
    }

    /// There is a place again: whoever waits in the backlog is heard of by the timer, because no edge comes for that.
    fn place_is_free(&mut self, now: Instant) {
        if self.is_knocked && self.closed_until.is_none() {
            self.timer.arm(now, now);
        }
    }

    fn has_place(&self) -> bool {
        self.clients.len() + self.connections.len() < self.most
    }

    /// A port of the host's for one more client, unless there are too many.
    fn free_port(&mut self) -> Option<u32> {
        if !self.has_place() {
            return None;
        }
        // Ends, because there are far more ports than connections.
        loop {
            let port = self.next_port;
            self.next_port = if port + 1 < HOST_PORTS.end { port + 1 } else { HOST_PORTS.start };
            let is_taken = self.clients.contains_key(&port)
                || self
                    .connections
                    .range(Ports { host: port, guest: 0 }..)
                    .next()
                    .is_some_and(|(ports, _)| ports.host == port);
            if !is_taken {
                return Some(port);
            }
        }
    }

    fn hear_client(&mut self, host: u32, now: Instant) {
        let Some(client) = self.clients.get(&host) else { return };
        let guest = match client.ask() {
            Asked::Nothing => return,
            Asked::Port(port) => Some(port),
            Asked::Nonsense => None,
        };
        let Some(client) = self.clients.remove(&host) else { return };
        let Some(guest) = guest else {
            tracing::debug!("a host program asks the vsock device for nothing that there is");
            return;
        };
        let ports = Ports { host, guest };
        // It has a new name, and what it has sent already is an edge of the new one's.
        if let Err(error) =
            epoll::modify(&self.epoll, &client.stream, epoll::EventData::new_u64(token(ports)), EDGES)
        {
            tracing::warn!(%error, "a host program's vsock connection cannot be watched; it is closed");
            return;
        }
        self.connections.insert(ports, Connection::ask(client.stream, now));
        self.settle(ports, now);
    }

    /// After anything has happened to a connection: it gets in line, or is no more.
    fn settle(&mut self, ports: Ports, now: Instant) {
        let Some(connection) = self.connections.get_mut(&ports) else { return };
        if connection.is_gone() {
            if connection.is_in_line {
                // Else a guest that connects and hangs up, and takes no packets, would make the line ever longer.
                self.line.retain(|waiting| *waiting != ports);
            }
            self.connections.remove(&ports);
            return self.place_is_free(now);
        }
        if connection.wants_turn() && !std::mem::replace(&mut connection.is_in_line, true) {
            self.line.push_back(ports);
        }
        if let Some(deadline) = connection.deadline {
            self.timer.arm(deadline, now);
        }
    }

    /// Takes the packet that the driver sends in `chain`. Call only while there [is room](Self::has_room).
    ///
    /// # Errors
    /// The chain is shorter than its packet.
    pub(super) fn take(&mut self, chain: &Chain, memory: &GuestRam, now: Instant) -> Result<(), Broken> {
        let header = Header::read(chain, memory)?;
        if header.src_cid != u64::from(self.cid) {
            tracing::debug!(cid = header.src_cid, "the guest sends a packet in the name of somebody else");
            return Ok(());
        }
        let ports = Ports { host: header.dst_port, guest: header.src_port };
        if header.dst_cid != HOST_CID
            || header.kind != STREAM
            || ports.host == NO_PORT
            || ports.guest == NO_PORT
        {
            self.refuse(&header);
        } else if let Some(connection) = self.connections.get_mut(&ports) {
            connection.hear(&header, chain, memory, ports.host)?;
            self.settle(ports, now);
            self.hear_ready(ports.host, header.op, now);
        } else if header.op == op::REQUEST {
            self.connect(ports, &header, now);
        } else {
            self.refuse(&header);
        }
        Ok(())
    }

    /// Answers a packet that belongs nowhere.
    fn refuse(&mut self, header: &Header) {
        // An RST for an RST would go to and fro for ever.
        if header.op != op::RST {
            let ports = Ports { host: header.dst_port, guest: header.src_port };
            self.resets.push_back(Reset { cid: header.dst_cid, kind: header.kind, ports });
        }
    }

    /// The guest wants to speak to a port of the host's.
    fn connect(&mut self, ports: Ports, header: &Header, now: Instant) {
        if !self.has_place() {
            // Not a warning: a guest could write as many of them as it likes.
            tracing::debug!(port = ports.host, "a vsock connection of the guest's is one too many");
            return self.refuse(header);
        }
        let far = match &self.ready {
            Some(ready) if ready.port() == ports.host => None,
            _ => match self.reach(ports) {
                Ok(far) => Some(far),
                Err(error) => {
                    tracing::debug!(port = ports.host, %error, "the guest connects to a port that nobody serves");
                    return self.refuse(header);
                }
            },
        };
        self.connections.insert(ports, Connection::accept(far, header));
        self.settle(ports, now);
        self.hear_ready(ports.host, header.op, now);
    }

    /// A packet to a port of the host's, which may be the one by which the guest says that it is ready.
    fn hear_ready(&mut self, port: u32, op: u16, now: Instant) {
        if let Some(ready) = self.ready.as_mut().filter(|ready| ready.port() == port) {
            ready.hear(op, now);
            if let Some(due) = ready.due() {
                self.timer.arm(due, now);
            }
        }
    }

    fn reach(&self, ports: Ports) -> io::Result<UnixStream> {
        let far = self.host.connect(ports.host)?;
        watch(&self.epoll, far.as_fd(), token(ports))?;
        Ok(far)
    }

    /// Puts the next packet for the guest into `chain`, whose room is larger than a header; how many bytes it has.
    ///
    /// # Errors
    /// As [`super::super::Buffers::write`].
    pub(super) fn next(
        &mut self,
        chain: &Chain,
        memory: &GuestRam,
        now: Instant,
    ) -> Result<Option<u32>, Broken> {
        let header = Header { dst_cid: self.cid.into(), buf_alloc: BUFFER, ..Header::default() };
        if let Some(Reset { cid, kind, ports }) = self.resets.pop_front() {
            let header = Header { src_cid: cid, kind, op: op::RST, buf_alloc: 0, ..header.between(ports) };
            chain.writable.write(memory, 0, &header.bytes())?;
            return Ok(Some(HEADER));
        }
        while let Some(ports) = self.line.pop_front() {
            let Some(connection) = self.connections.get_mut(&ports) else { continue };
            connection.is_in_line = false;
            let packet = connection.next(&chain.writable, memory, now)?;
            self.settle(ports, now);
            if let Some(packet) = packet {
                let header = Header {
                    src_cid: HOST_CID,
                    kind: STREAM,
                    len: packet.len,
                    op: packet.op,
                    flags: packet.flags,
                    fwd_cnt: packet.fwd_cnt,
                    ..header.between(ports)
                };
                chain.writable.write(memory, 0, &header.bytes())?;
                return Ok(Some(HEADER + packet.len));
            }
        }
        Ok(None)
    }
}

impl Header {
    /// From the host's port to the guest's.
    fn between(self, ports: Ports) -> Self {
        Self { src_port: ports.host, dst_port: ports.guest, ..self }
    }
}

/// What is watched for.
const EDGES: epoll::EventFlags = epoll::EventFlags::IN
    .union(epoll::EventFlags::OUT)
    .union(epoll::EventFlags::RDHUP)
    .union(epoll::EventFlags::ET);

fn watch(epoll: &OwnedFd, fd: BorrowedFd<'_>, token: u64) -> rustix::io::Result<()> {
    epoll::add(epoll, fd, epoll::EventData::new_u64(token), EDGES)
}
