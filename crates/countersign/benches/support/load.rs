//! A load generator of one thread: it writes a request to every connection, then goes around, takes
//! each answer and at once asks the next. All connections but one are always waiting for an answer,
//! at two system calls a request.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What a connection talks about.
pub(crate) trait Conversation {
    /// The bytes of the next request; `None`: there is nothing more to say.
    fn request(&mut self) -> Option<&[u8]>;

    /// Takes the answer to it.
    fn answered(&mut self, answer: &Answer<'_>);
}

/// An answer as it came, whole.
pub(crate) struct Answer<'a> {
    pub(crate) head: &'a str,
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// Stops the bench unless the answer is a 200: figures of refusals are none.
    pub(crate) fn must_be_ok(&self) {
        assert!(
            self.head.starts_with("HTTP/1.1 200 "),
            "{}\r\n\r\n{}",
            self.head,
            String::from_utf8_lossy(self.body)
        );
    }
}

/// A kept-alive connection and its conversation.
pub(crate) struct Caller<C> {
    stream: TcpStream,
    buffer: Vec<u8>,
    waits: bool,
    pub(crate) conversation: C,
}

impl<C: Conversation> Caller<C> {
    /// Connects. A caller that `sleeps` while it waits leaves its core to others, and has itself
    /// woken by the server, which costs that a microsecond or two; one that does not sleep takes a
    /// whole core, and leaves only its own work to the server.
    pub(crate) fn connect(address: SocketAddr, conversation: C, sleeps: bool) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket has it");
        stream.set_nonblocking(!sleeps).expect("a socket can");
        Self {
            stream,
            buffer: vec![0; 64 * 1024],
            waits: false,
            conversation,
        }
    }

    /// Sends the next request, if there is one.
    fn ask(&mut self) {
        let Some(request) = self.conversation.request() else {
            return;
        };
        self.stream.write_all(request).expect("the server reads");
        self.waits = true;
    }

    /// Waits for the answer.
    fn hear(&mut self) {
        let mut filled = 0;
        loop {
            let read = match self.stream.read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::hint::spin_loop();
                    continue;
                }
                read => read.expect("the server answers"),
            };
            assert!(read > 0, "the server closed the connection");
            filled += read;
            if let Some(answer) = whole(&self.buffer[..filled]) {
                self.conversation.answered(&answer);
                self.waits = false;
                return;
            }
        }
    }
}

/// The answer, if all of it has arrived.
fn whole(bytes: &[u8]) -> Option<Answer<'_>> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).expect("our heads are text");
    let body = &bytes[end + 4..];
    let length = header(head, "content-length").and_then(|length| length.parse().ok());
    let length: usize = length.expect("our answers have a content-length");
    (body.len() >= length).then_some(Answer { head, body })
}

/// The value of the first header of this name, which is to be in lower case.
fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.split("\r\n")
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Keeps every connection busy for `turn` and gives the answers per second.
pub(crate) fn drive<C: Conversation>(callers: &mut [Caller<C>], turn: Duration) -> f64 {
    let start = Instant::now();
    let mut answers = 0_u32;
    callers.iter_mut().for_each(Caller::ask);
    while callers.iter().any(|caller| caller.waits) {
        for caller in callers.iter_mut().filter(|caller| caller.waits) {
            caller.hear();
            answers += 1;
            if start.elapsed() < turn {
                caller.ask();
            }
        }
    }
    f64::from(answers) / start.elapsed().as_secs_f64()
}
