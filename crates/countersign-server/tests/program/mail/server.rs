//! A mail server that keeps what it is given, and now and then answers as it is told to.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

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

/// When TLS begins.
#[derive(Clone)]
pub(crate) enum Tls {
    Never,
    AtOnce(Arc<ServerConfig>),
    WhenAsked(Arc<ServerConfig>),
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

struct Shared {
    tls: Tls,
    answers: Mutex<VecDeque<Answer>>,
    received: Mutex<Vec<Received>>,
    /// Who has signed in, as it was said.
    signed_in: Mutex<Vec<String>>,
}

impl MailServer {
    /// One that gives these answers, one to each connection, and then takes everything.
    pub(crate) fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::start_with(Tls::Never, answers)
    }

    pub(crate) fn start_with(tls: Tls, answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            tls,
            answers: Mutex::new(answers.into_iter().collect()),
            received: Mutex::default(),
            signed_in: Mutex::default(),
        });
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, server) = (stream.unwrap(), Arc::clone(&server));
                thread::spawn(move || {
                    let _client_may_have_gone = server.serve(stream);
                });
            }
        });
        Self { port, shared }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    pub(crate) fn signed_in(&self) -> Vec<String> {
        self.shared.signed_in.lock().unwrap().clone()
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut answer = self.answers.lock().unwrap().pop_front();
        let secure = |config: &Arc<ServerConfig>, stream| {
            StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), stream)
        };
        let greeting = b"220 mail.test ESMTP\r\n";
        if let Tls::AtOnce(config) = &self.tls {
            let mut stream = secure(config, stream);
            stream.write_all(greeting)?;
            return self.talk(stream, false, &mut answer).map(drop);
        }
        let mut stream = stream;
        stream.write_all(greeting)?;
        let offers_tls = matches!(self.tls, Tls::WhenAsked(_));
        let in_the_clear = self.talk(stream, offers_tls, &mut answer)?;
        if let (Some(stream), Tls::WhenAsked(config)) = (in_the_clear, &self.tls) {
            self.talk(secure(config, stream), false, &mut answer)?;
        }
        Ok(())
    }

    /// Talks to the end, or until TLS is to begin: then the stream is given back.
    fn talk<S: Read + Write>(
        &self,
        stream: S,
        offers_tls: bool,
        answer: &mut Option<Answer>,
    ) -> io::Result<Option<S>> {
        let mut stream = BufReader::new(stream);
        let (mut from, mut to) = (String::new(), Vec::new());
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let line = line.trim_end();
            let mut say = |said: &str| stream.get_mut().write_all(format!("{said}\r\n").as_bytes());
            if let Some(Answer::To(command, said)) = answer
                && line.starts_with(*command)
            {
                say(said)?;
                *answer = None;
            } else if line.starts_with("EHLO ") {
                let more = if offers_tls { "STARTTLS" } else { "AUTH PLAIN" };
                say(&format!("250-mail.test\r\n250-8BITMIME\r\n250 {more}"))?;
            } else if line == "STARTTLS" && offers_tls {
                say("220 go on")?;
                return Ok(Some(stream.into_inner()));
            } else if line.starts_with("AUTH ") {
                self.signed_in.lock().unwrap().push(line.to_owned());
                say("235 welcome")?;
            } else if let Some(path) = line.strip_prefix("MAIL FROM:") {
                path.split(' ').next().unwrap().clone_into(&mut from);
                say("250 ok")?;
            } else if let Some(path) = line.strip_prefix("RCPT TO:") {
                to.push(path.to_owned());
                say("250 ok")?;
            } else if line == "DATA" {
                say("354 go on")?;
                let mut text = String::new();
                while !text.ends_with("\r\n.\r\n") {
                    stream.read_line(&mut text)?;
                }
                let (from, to) = (from.clone(), std::mem::take(&mut to));
                let received = Received { from, to, text };
                self.received.lock().unwrap().push(received);
                match answer {
                    Some(Answer::Never) => {
                        let _until_it_goes = stream.read_line(&mut String::new())?;
                        return Ok(None);
                    }
                    Some(Answer::After(time)) => thread::sleep(*time),
                    Some(Answer::To(..)) | None => {}
                }
                stream.get_mut().write_all(b"250 kept\r\n")?;
            } else if line == "QUIT" {
                say("221 bye")?;
                return Ok(None);
            } else {
                say("500 what?")?;
            }
        }
    }
}
