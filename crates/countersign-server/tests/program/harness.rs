//! A place to run the program in, a service that runs there, and the smallest HTTP client.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const PASSWORD: &str = "CANARY correct horse battery";

/// An empty directory with two free ports.
pub(crate) struct Place {
    directory: TempDir,
    pub(crate) port: u16,
    pub(crate) operations_port: u16,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Tries until it is true, for as long as a busy machine may need.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "never came to pass: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

impl Place {
    /// A directory whose settings file names two free ports of the loopback address.
    pub(crate) fn new() -> Self {
        Self::at(TempDir::new().unwrap())
    }

    /// The same in a directory of somebody's choice.
    pub(crate) fn at(directory: TempDir) -> Self {
        let place = Self {
            directory,
            port: free_port(),
            operations_port: free_port(),
        };
        place.settings("");
        place
    }

    /// Writes the settings file: the ports, and what is given.
    pub(crate) fn settings(&self, more: &str) {
        let (port, operations_port) = (self.port, self.operations_port);
        let text = format!(
            "server.listen = \"127.0.0.1:{port}\"\n\
             server.operations_listen = \"127.0.0.1:{operations_port}\"\n{more}\n"
        );
        self.write("countersign.toml", &text);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The program with these words, in this directory and an environment of its own.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(words).current_dir(&self.directory).env_clear();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Said {
        finish(&mut self.command(words), "")
    }

    /// Runs the program, which must do what it is asked, and gives what it says.
    #[track_caller]
    pub(crate) fn done(&self, words: &[&str]) -> String {
        let said = self.run(words);
        assert_eq!(
            (said.status, said.stderr.as_str()),
            (Some(0), ""),
            "{said:?}"
        );
        said.stdout
    }

    /// Runs the program to its end with something on standard input.
    pub(crate) fn run_with_input(&self, words: &[&str], input: &str) -> Said {
        finish(&mut self.command(words), input)
    }

    /// Runs the program to its end with these variables set.
    pub(crate) fn run_with(&self, variables: &[(&str, &str)], words: &[&str]) -> Said {
        finish(self.command(words).envs(variables.iter().copied()), "")
    }

    /// The same with these variables set and something on standard input.
    pub(crate) fn run_with_input_and(
        &self,
        variables: &[(&str, &str)],
        words: &[&str],
        input: &str,
    ) -> Said {
        finish(self.command(words).envs(variables.iter().copied()), input)
    }

    /// Makes a user with [`PASSWORD`].
    pub(crate) fn add_user(&self, name: &str) {
        let said = self.run_with_input(&["user", "add", name, "--password-stdin"], PASSWORD);
        assert_eq!(said.status, Some(0), "{said:?}");
    }

    /// A connection of somebody else's to the database.
    pub(crate) fn stranger(&self) -> Connection {
        Connection::open(self.path("countersign.db")).unwrap()
    }

    /// How often a session has been rotated, as it stands in the database.
    pub(crate) fn generation(&self, session: &str) -> Option<u32> {
        let id = session.replace('-', "");
        let generation = "SELECT generation FROM countersign_session WHERE hex(id) = upper(?1)";
        let stranger = self.stranger();
        let found = stranger.query_row(generation, [id], |row| row.get(0));
        found.optional().unwrap()
    }

    /// What SQLite finds when it looks at every page: `ok`, or what is wrong.
    pub(crate) fn integrity(&self) -> String {
        let check = "PRAGMA integrity_check";
        let stranger = self.stranger();
        stranger.query_row(check, [], |row| row.get(0)).unwrap()
    }

    /// Starts the service and waits until it is ready.
    pub(crate) fn serve(&self) -> Service {
        Service::start(&mut self.command(&["serve"]), self.operations_port)
    }

    /// The same with these variables set.
    pub(crate) fn serve_with(&self, variables: &[(&str, &str)]) -> Service {
        let mut command = self.command(&["serve"]);
        Service::start(
            command.envs(variables.iter().copied()),
            self.operations_port,
        )
    }
}

/// A port that nobody listens on. Below the range from which the system takes ports for outgoing
/// connections, or another test's client might have it a moment later.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id() * 97 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(10_000 + number % 20_000).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn finish(command: &mut Command, input: &str) -> Said {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // A program that refuses before it reads closes its end.
    let _refused_early = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Said {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A service that runs until it is stopped or dropped.
pub(crate) struct Service {
    child: Child,
    readers: Vec<JoinHandle<()>>,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

impl Service {
    pub(crate) fn start(command: &mut Command, operations_port: u16) -> Self {
        Self::start_until(command, |_| {
            try_get(operations_port, "/readyz").is_some_and(|reply| reply.status == 200)
        })
    }

    /// Starts the program and waits until it is so far.
    pub(crate) fn start_until(command: &mut Command, is_ready: impl Fn(&Self) -> bool) -> Self {
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers = vec![
            collect(child.stdout.take().unwrap(), Arc::clone(&stdout)),
            collect(child.stderr.take().unwrap(), Arc::clone(&stderr)),
        ];
        let mut service = Self {
            child,
            readers,
            stdout,
            stderr,
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_ready(&service) {
            let ended = service.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", service.stderr());
            assert!(
                Instant::now() < deadline,
                "it is not ready: {}",
                service.stderr()
            );
            thread::sleep(Duration::from_millis(20));
        }
        service
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until the log holds this.
    pub(crate) fn await_log(&self, wanted: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.stderr().contains(wanted) {
            assert!(
                Instant::now() < deadline,
                "{wanted} is not in {}",
                self.stderr()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let process = self.id().to_string();
        let status = Command::new("kill")
            .args([name, &process])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Ends it as `kill -9` does, and gives all that it said. It must have been running.
    pub(crate) fn kill(mut self) -> String {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "it ended by itself: {}", self.stderr());
        self.child.kill().unwrap();
        self.wait().1
    }

    /// Asks it to stop, waits for the end and gives all that it said.
    pub(crate) fn stop(mut self) -> (ExitStatus, String) {
        self.signal("-TERM");
        self.wait()
    }

    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        (status, format!("{}{}", self.stdout(), self.stderr()))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}

fn collect(stream: impl Read + Send + 'static, into: Arc<Mutex<String>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let mut text = into.lock().unwrap();
            text.push_str(&line.unwrap());
            text.push('\n');
        }
    })
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Asserts that it is a refusal of this kind.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{self:?}");
        problem
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    /// The values of all headers of a name.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(move |(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The value of a cookie that the answer sets.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        let value = self
            .headers("set-cookie")
            .find_map(|cookie| cookie.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.split(';').next().unwrap().to_owned())
    }
}

/// The text of a request that closes the connection after its answer.
pub(crate) fn request(start: &str, host: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{start} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\
         {headers}\r\n{body}"
    )
}

/// Reads an answer to the end of the connection.
pub(crate) fn read_reply(stream: &mut impl Read) -> Option<Reply> {
    let mut bytes = Vec::new();
    // A peer may leave TLS without saying so; what counts is whether the answer is whole.
    let _end = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Reply {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
}

/// A connection that is kept for several requests.
pub(crate) struct Line<S: Read + Write = TcpStream> {
    stream: BufReader<S>,
    host: String,
}

impl Line {
    pub(crate) fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self::over(stream, &format!("127.0.0.1:{port}")))
    }
}

impl<S: Read + Write> Line<S> {
    /// Over a stream that somebody has opened, to a host of this name.
    pub(crate) fn over(stream: S, host: &str) -> Self {
        Self {
            stream: BufReader::new(stream),
            host: host.to_owned(),
        }
    }

    /// The stream, for whoever wants to write something else. Nothing may have been heard yet.
    pub(crate) fn into_stream(self) -> S {
        self.stream.into_inner()
    }

    /// Sends a request and leaves it at that.
    pub(crate) fn say(&mut self, start: &str, headers: &str, body: &str) -> io::Result<()> {
        let (host, length) = (&self.host, body.len());
        let text = format!(
            "{start} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        self.stream.get_mut().write_all(text.as_bytes())
    }

    /// Waits for the answer. An error: it never comes.
    pub(crate) fn hear(&mut self) -> io::Result<Reply> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut reply = Reply {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.trim_end().to_owned(),
            body: String::new(),
        };
        let length = reply.header("content-length").unwrap_or("0");
        let mut body = vec![0; length.parse().unwrap()];
        self.stream.read_exact(&mut body)?;
        reply.body = String::from_utf8(body).unwrap();
        Ok(reply)
    }

    pub(crate) fn ask(&mut self, start: &str, headers: &str, body: &str) -> io::Result<Reply> {
        self.say(start, headers, body)?;
        self.hear()
    }
}

pub(crate) fn try_get(port: u16, path: &str) -> Option<Reply> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    let host = format!("127.0.0.1:{port}");
    stream
        .write_all(request(&format!("GET {path}"), &host, "", "").as_bytes())
        .ok()?;
    read_reply(&mut stream)
}

pub(crate) fn send(port: u16, start: &str, headers: &str, body: &str) -> Reply {
    let mut stream = connect(port);
    let host = format!("127.0.0.1:{port}");
    stream
        .write_all(request(start, &host, headers, body).as_bytes())
        .unwrap();
    read_reply(&mut stream).unwrap()
}

pub(crate) fn login_body(name: &str, password: &str) -> String {
    json!({ "username": name, "password": password }).to_string()
}

pub(crate) const JSON: &str = "Content-Type: application/json\r\n";

pub(crate) fn login(port: u16, name: &str, password: &str) -> Reply {
    send(port, "POST /users/login", JSON, &login_body(name, password))
}

/// The session that an access token belongs to.
pub(crate) fn session_of(access_token: &str) -> String {
    let claims = access_token.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    claims["sid"].as_str().unwrap().to_owned()
}

/// Somebody who is signed in, and what a browser would hold of it.
#[derive(Debug, Clone)]
pub(crate) struct SignedIn {
    pub(crate) session: String,
    cookie_name: &'static str,
    pub(crate) cookie: String,
    pub(crate) csrf: String,
    pub(crate) access: String,
}

impl SignedIn {
    /// Signs in with [`PASSWORD`].
    pub(crate) fn new(port: u16, name: &str) -> Self {
        Self::from_reply(&login(port, name, PASSWORD))
    }

    /// From the answer to a sign-in or a refresh.
    pub(crate) fn from_reply(reply: &Reply) -> Self {
        assert_eq!(reply.status, 200, "{reply:?}");
        let body = reply.json();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let access = text("access_token");
        let cookie = |name| Some((name, reply.cookie(name)?));
        let (cookie_name, cookie) = ["refreshtoken", "__Host-Http-refreshtoken"]
            .into_iter()
            .find_map(cookie)
            .unwrap();
        Self {
            session: session_of(&access),
            cookie_name,
            cookie,
            csrf: text("csrf_token"),
            access,
        }
    }

    /// The headers that show the access token and the CSRF token.
    pub(crate) fn bearer(&self) -> String {
        let (access, csrf) = (&self.access, &self.csrf);
        format!("Authorization: Bearer {access}\r\nX-CSRFToken: {csrf}\r\n")
    }

    /// The headers that show the refresh token and the CSRF token.
    pub(crate) fn cookies(&self) -> String {
        let (name, cookie, csrf) = (self.cookie_name, &self.cookie, &self.csrf);
        format!("Cookie: {name}={cookie}\r\nX-CSRFToken: {csrf}\r\n")
    }

    /// Asks who this is, with the access token.
    pub(crate) fn user(&self, port: u16) -> Reply {
        send(port, "GET /users/user", &self.bearer(), "")
    }

    /// Shows the refresh token. What comes of it is not kept.
    pub(crate) fn refresh(&self, port: u16) -> Reply {
        send(port, REFRESH, &self.cookies(), "")
    }
}

pub(crate) const REFRESH: &str = "POST /users/refresh_token";
pub(crate) const LOGOUT: &str = "POST /users/logout";
