//! One connection: a socket of the host on one side, packets on the other, and the accounts of who may send how much.
//!
//! It knows neither queues nor other connections. What it has to say waits in a flag for each kind of packet, so a guest
//! that takes no packets costs no memory.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{SendFlags, send};

use super::super::{Broken, Buffers, Chain};
use super::packet::{HEADER, Header, op, shutdown};
use crate::memory::GuestRam;
use crate::sys::stream;

/// What is kept of a guest's data for a host program that does not read, in bytes (`buf_alloc`): 64 KiB, as long as the
/// longest packet that Linux sends.
pub(super) const BUFFER: u32 = 64 << 10;
/// How long a guest may take to answer a REQUEST, and to end a connection that its host program has left.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// A packet of a connection, without what every packet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub op: u16,
    pub flags: u32,
    pub len: u32,
    pub fwd_cnt: u32,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The host program waits for the guest's answer.
    Asking,
    Open,
    /// The guest has ended it in order; what it had said before goes on to the host program.
    Leaving,
    /// The guest is owed an RST, and that is all.
    Broken,
    /// Nobody is owed anything.
    Gone,
}

/// What the guest is to be told, beside data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Owed {
    request: bool,
    response: bool,
    rst: bool,
    credit_update: bool,
    credit_request: bool,
    /// Flags of a SHUTDOWN.
    shutdown: u32,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// The host program's socket; `None` if the data goes nowhere.
    far: Option<UnixStream>,
    /// May have something to be received, or its end.
    is_readable: bool,
    /// May take something.
    is_writable: bool,
    /// The host program has closed both directions.
    has_hung_up: bool,
    phase: Phase,
    owed: Owed,
    /// When the guest's time to answer is over.
    pub deadline: Option<Instant>,
    /// Whether it waits in the line of those who have something to say.
    pub is_in_line: bool,
    /// Of the two directions, those that the guest has shut, and those that it was told are shut (flags of SHUTDOWN).
    guest_shut: u32,
    host_shut: u32,
    // What the guest may be sent: bytes sent so far, the room that it keeps, what it has passed on.
    sent: u32,
    guest_room: u32,
    guest_passed: u32,
    /// It was asked for more room since it last spoke.
    has_asked: bool,
    // What the guest has sent: bytes so far, those passed on to the host program, and what it was told of these.
    received: u32,
    passed: u32,
    told: u32,
    /// What was received and not passed on: at most [`BUFFER`] bytes.
    backlog: VecDeque<u8>,
}

impl Connection {
    fn new(far: Option<UnixStream>, phase: Phase, owed: Owed) -> Self {
        Self {
            far,
            is_readable: false,
            is_writable: true,
            has_hung_up: false,
            phase,
            owed,
            deadline: None,
            is_in_line: false,
            guest_shut: 0,
            host_shut: 0,
            sent: 0,
            guest_room: 0,
            guest_passed: 0,
            has_asked: false,
            received: 0,
            passed: 0,
            told: 0,
            backlog: VecDeque::new(),
        }
    }

    /// A host program's wish to connect.
    pub(super) fn ask(far: UnixStream, now: Instant) -> Self {
        let mut asking = Self::new(Some(far), Phase::Asking, Owed { request: true, ..Owed::default() });
        asking.deadline = Some(now + PATIENCE);
        asking
    }

    /// The guest's wish to connect, granted. Without `far`, to nobody: what is sent there is taken and forgotten, and
    /// the guest is asked for its account, which it gives only once it knows that it is connected.
    pub(super) fn accept(far: Option<UnixStream>, request: &Header) -> Self {
        let owed = Owed { response: true, credit_request: far.is_none(), ..Owed::default() };
        let mut open = Self::new(far, Phase::Open, owed);
        open.hear_account(request);
        open
    }

    /// Whether nobody needs it any more.
    pub(super) fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    /// Whether the guest knows of it and would wait in vain if it went without an RST.
    pub(super) fn guest_knows(&self) -> bool {
        match self.phase {
            Phase::Asking => !self.owed.request,
            Phase::Open | Phase::Broken => true,
            Phase::Leaving | Phase::Gone => false,
        }
    }

    /// Whether it may have something to say.
    pub(super) fn wants_turn(&self) -> bool {
        let Owed { request, response, rst, credit_update, credit_request, shutdown } = self.owed;
        let says = request || response || rst || credit_update || credit_request || shutdown != 0;
        says || self.may_have_data() && (self.credit() > 0 || !self.has_asked)
    }

    fn may_have_data(&self) -> bool {
        let reads = self.guest_shut & shutdown::RECEIVE == 0 && self.host_shut & shutdown::SEND == 0;
        self.phase == Phase::Open && self.is_readable && reads
    }

    /// How many bytes the guest has room for. None, should its accounts be impossible.
    fn credit(&self) -> u32 {
        self.guest_room.saturating_sub(self.sent.wrapping_sub(self.guest_passed))
    }

    fn hear_account(&mut self, header: &Header) {
        self.guest_room = header.buf_alloc;
        self.guest_passed = header.fwd_cnt;
        self.has_asked = false;
    }

    /// Tells the guest that it is over, and the host program at once. What was on its way is lost.
    pub(super) fn fail(&mut self) {
        if self.guest_knows() {
            self.owed = Owed { rst: true, ..Owed::default() };
            self.phase = Phase::Broken;
        } else {
            self.phase = Phase::Gone;
        }
        self.far = None;
        self.backlog = VecDeque::new();
        self.deadline = None;
    }

    /// The time that the guest had is over.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.fail();
        }
    }

    /// The host program's socket has news.
    pub(super) fn far_ready(&mut self, is_readable: bool, is_writable: bool, has_hung_up: bool) {
        self.is_readable |= is_readable;
        self.is_writable |= is_writable;
        self.has_hung_up |= has_hung_up;
        if self.has_hung_up && self.host_shut & shutdown::SEND != 0 {
            self.shut(shutdown::RECEIVE);
        }
        if is_writable {
            self.pass_on();
        }
    }

    /// The guest's packet. `host_port` is what the host program is told when its wish is granted.
    ///
    /// # Errors
    /// As [`Buffers::slices`].
    pub(super) fn hear(
        &mut self,
        header: &Header,
        chain: &Chain,
        memory: &GuestRam,
        host_port: u32,
    ) -> Result<(), Broken> {
        match self.phase {
            // It is over on both sides: what the guest says now it has said before it knew.
            Phase::Leaving | Phase::Gone => return Ok(()),
            Phase::Broken if header.op == op::RST => {
                self.phase = Phase::Gone;
                return Ok(());
            }
            Phase::Broken => return Ok(()),
            Phase::Asking | Phase::Open => self.hear_account(header),
        }
        match (self.phase, header.op) {
            (_, op::RST) => self.guest_left(),
            (Phase::Asking, op::RESPONSE) if !self.owed.request => self.granted(host_port),
            (Phase::Open, op::RW) => self.receive(header, chain, memory)?,
            (Phase::Open, op::CREDIT_UPDATE) => {}
            (Phase::Open, op::CREDIT_REQUEST) => self.owed.credit_update = true,
            (Phase::Open, op::SHUTDOWN) => self.guest_shuts(header.flags),
            _ => self.fail(),
        }
        Ok(())
    }

    fn granted(&mut self, host_port: u32) {
        let line = format!("OK {host_port}\n");
        let told = self.far.as_ref().map(|far| send(far, line.as_bytes(), SEND));
        // A socket that nothing was sent to yet takes a line, or its other end is closed.
        if told == Some(Ok(line.len())) {
            self.phase = Phase::Open;
            self.deadline = None;
        } else {
            self.fail();
        }
    }

    fn guest_left(&mut self) {
        if self.guest_shut & shutdown::SEND != 0 && !self.backlog.is_empty() {
            self.phase = Phase::Leaving;
            self.owed = Owed::default();
            self.deadline = None;
        } else {
            self.phase = Phase::Gone;
        }
    }

    fn guest_shuts(&mut self, flags: u32) {
        self.guest_shut |= flags & shutdown::BOTH;
        if self.guest_shut & shutdown::RECEIVE != 0
            && let Some(far) = &self.far
        {
            // Fails only where the other end is gone, and then so is what would be shut.
            let _ = far.shutdown(Shutdown::Read);
        }
        self.conclude();
    }

    /// What is to be done when all that the guest has said is passed on.
    fn conclude(&mut self) {
        if !self.backlog.is_empty() {
            return;
        }
        self.backlog = VecDeque::new();
        if self.phase == Phase::Leaving {
            self.phase = Phase::Gone;
        } else if self.guest_shut == shutdown::BOTH {
            self.fail();
        } else if self.guest_shut & shutdown::SEND != 0
            && let Some(far) = &self.far
        {
            // As above.
            let _ = far.shutdown(Shutdown::Write);
        }
    }

    /// Takes the guest's data: straight into the host program's socket as far as that takes it, the rest into the
    /// backlog.
    fn receive(&mut self, header: &Header, chain: &Chain, memory: &GuestRam) -> Result<(), Broken> {
        let held = self.backlog.len() as u32;
        if self.guest_shut & shutdown::SEND != 0 || header.len > BUFFER - held {
            // It has said that it would send no more, or it had no credit for it.
            self.fail();
            return Ok(());
        }
        self.received = self.received.wrapping_add(header.len);
        let mut done = 0;
        if held == 0 && self.is_writable && header.len > 0 {
            let data = chain.readable.slices(memory, HEADER..HEADER + header.len)?;
            done = match &self.far {
                Some(far) => stream::send(far.as_fd(), &data),
                None => Ok(header.len as usize),
            }
            .map_or_else(|error| self.refused(&error, header.len), |sent| sent as u32);
            self.is_writable &= done == header.len;
            self.passed = self.passed.wrapping_add(done);
        }
        if done < header.len && self.phase == Phase::Open {
            let mut rest = vec![0; (header.len - done) as usize];
            let read = chain.readable.read(memory, HEADER + done, &mut rest)?;
            self.backlog.extend(&rest[..read]);
        }
        self.account();
        Ok(())
    }

    /// How much of `len` bytes is dealt with when the socket answers with `error`: nothing, if it only takes nothing
    /// now; all, if nobody will ever read it.
    fn refused(&mut self, error: &io::Error, len: u32) -> u32 {
        if error.kind() == io::ErrorKind::WouldBlock {
            return 0;
        }
        self.shut(shutdown::RECEIVE);
        len
    }

    /// Passes on what the backlog holds.
    fn pass_on(&mut self) {
        while !self.backlog.is_empty() && self.is_writable {
            let piece = self.backlog.as_slices().0;
            let len = piece.len();
            let sent = match &self.far {
                Some(far) => send(far, piece, SEND).map_err(io::Error::from),
                None => Ok(len),
            };
            let sent = match sent {
                Ok(sent) => sent,
                Err(error) => self.refused(&error, len as u32) as usize,
            };
            self.is_writable &= sent == len;
            self.backlog.drain(..sent);
            self.passed = self.passed.wrapping_add(sent as u32);
        }
        self.account();
        self.conclude();
    }

    /// Sees to it that the guest hears of room before it has used up half of what it knows of.
    fn account(&mut self) {
        let known = BUFFER.saturating_sub(self.received.wrapping_sub(self.told));
        if self.phase == Phase::Open && known < BUFFER / 2 && self.passed != self.told {
            self.owed.credit_update = true;
        }
    }

    /// The host program will not do this any more.
    fn shut(&mut self, flags: u32) {
        if self.phase == Phase::Open {
            self.owed.shutdown |= flags & !self.host_shut;
        }
    }

    /// The next packet for the guest, if there is one; its data is put into `room` behind the header.
    ///
    /// # Errors
    /// As [`Buffers::slices`].
    pub(super) fn next(
        &mut self,
        room: &Buffers,
        memory: &GuestRam,
        now: Instant,
    ) -> Result<Option<Packet>, Broken> {
        let packet = self.choose(room, memory, now)?;
        Ok(packet.map(|(op, flags, len)| {
            self.told = self.passed;
            self.owed.credit_update = false;
            Packet { op, flags, len, fwd_cnt: self.passed }
        }))
    }

    fn choose(
        &mut self,
        room: &Buffers,
        memory: &GuestRam,
        now: Instant,
    ) -> Result<Option<(u16, u32, u32)>, Broken> {
        if std::mem::take(&mut self.owed.rst) {
            self.phase = Phase::Gone;
            return Ok(Some((op::RST, 0, 0)));
        }
        if std::mem::take(&mut self.owed.request) {
            return Ok(Some((op::REQUEST, 0, 0)));
        }
        if std::mem::take(&mut self.owed.response) {
            return Ok(Some((op::RESPONSE, 0, 0)));
        }
        if self.may_have_data() {
            let len = self.send_data(room, memory)?;
            if len > 0 {
                return Ok(Some((op::RW, 0, len)));
            }
        }
        if self.may_have_data() && self.credit() == 0 && !std::mem::replace(&mut self.has_asked, true) {
            return Ok(Some((op::CREDIT_REQUEST, 0, 0)));
        }
        if std::mem::take(&mut self.owed.credit_request) {
            return Ok(Some((op::CREDIT_REQUEST, 0, 0)));
        }
        if self.owed.credit_update {
            return Ok(Some((op::CREDIT_UPDATE, 0, 0)));
        }
        let shut = std::mem::take(&mut self.owed.shutdown);
        if shut == 0 {
            return Ok(None);
        }
        self.host_shut |= shut;
        if self.host_shut == shutdown::BOTH {
            self.deadline = Some(now + PATIENCE);
        }
        Ok(Some((op::SHUTDOWN, self.host_shut, 0)))
    }

    /// Receives what the host program has sent, as far as the guest has room; how many bytes there were.
    fn send_data(&mut self, room: &Buffers, memory: &GuestRam) -> Result<u32, Broken> {
        let most = self.credit().min(room.len().saturating_sub(HEADER));
        let Some(far) = self.far.as_ref().filter(|_| most > 0) else { return Ok(0) };
        let place = room.slices(memory, HEADER..HEADER + most)?;
        match stream::receive(far.as_fd(), &place) {
            Ok(0) => {
                self.is_readable = false;
                let both = if self.has_hung_up { shutdown::BOTH } else { shutdown::SEND };
                self.shut(both);
                Ok(0)
            }
            Ok(len) => {
                self.sent = self.sent.wrapping_add(len as u32);
                Ok(len as u32)
            }
            Err(error) => {
                self.is_readable = false;
                if error.kind() != io::ErrorKind::WouldBlock {
                    self.shut(shutdown::BOTH);
                }
                Ok(0)
            }
        }
    }
}

/// Sockets of host programs are never waited for, and one that is closed is no signal.
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
