//! A mail server that keeps what it is given, and now and then answers as it is told to.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What it does once instead of taking a mail.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// Answers a command with this, and the rest as ever.
    To(&'static str, &'static str),
    /// Keeps the mail and does not say so.
    Never,
    /// Keeps the mail and says so after a while.
    After(Duration),
}

/// A mail as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) text: String,
}

impl Received {
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let (head, _) = self.text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(own, _)| *own == name).unwrap().1
    }
}

/// A mail server on this machine, until the test ends.
pub(crate) struct MailServer {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<VecDeque<Answer>>,
    received: Mutex<Vec<Received>>,
}

impl MailServer {
    /// One that gives these answers, one to each connection, and then takes everything.
    pub(crate) fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            answers: Mutex::new(answers.into_iter().collect()),
            received: Mutex::default(),
        });
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, server) = (stream.unwrap(), Arc::clone(&server));
                thread::spawn(move || {
                    let _client_may_have_gone = server.talk(stream);
                });
            }
        });
        Self { port, shared }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }
}

impl Shared {
    fn talk(&self, stream: TcpStream) -> io::Result<()> {
        let mut answer = self.answers.lock().unwrap().pop_front();
        let (mut input, mut output) = (BufReader::new(stream.try_clone()?), stream);
        let (mut from, mut to) = (String::new(), Vec::new());
        output.write_all(b"220 mail.test ESMTP\r\n")?;
        loop {
            let mut line = String::new();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if let Some(Answer::To(command, said)) = answer
                && line.starts_with(command)
            {
                answer = None;
                output.write_all(format!("{said}\r\n").as_bytes())?;
                continue;
            }
            let said = if line.starts_with("EHLO ") {
                "250-mail.test\r\n250-8BITMIME\r\n250 SMTPUTF8"
            } else if let Some(path) = line.strip_prefix("MAIL FROM:") {
                path.split(' ').next().unwrap().clone_into(&mut from);
                "250 ok"
            } else if let Some(path) = line.strip_prefix("RCPT TO:") {
                to.push(path.to_owned());
                "250 ok"
            } else if line == "DATA" {
                output.write_all(b"354 go on\r\n")?;
                let mut text = String::new();
                while !text.ends_with("\r\n.\r\n") {
                    input.read_line(&mut text)?;
                }
                let (from, to) = (from.clone(), std::mem::take(&mut to));
                let received = Received { from, to, text };
                self.received.lock().unwrap().push(received);
                match answer {
                    Some(Answer::Never) => return input.read_line(&mut String::new()).map(drop),
                    Some(Answer::After(time)) => thread::sleep(time),
                    Some(Answer::To(..)) | None => {}
                }
                "250 kept"
            } else if line == "QUIT" {
                return output.write_all(b"221 bye\r\n");
            } else {
                "500 what?"
            };
            output.write_all(format!("{said}\r\n").as_bytes())?;
        }
    }
}
