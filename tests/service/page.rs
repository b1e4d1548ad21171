//! The status page: as text, and as a browser shows it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;

use crate::outside::{ANY_PORT, Answer, address, ask, with_service};
use crate::process::{Running, Setup, lines, number, wait_until};

/// The word of the page for a number of records.
fn row(name: &str, number: u64) -> String {
    format!("<dt>{name}</dt><dd>{number}</dd>")
}

fn served(setup: &Setup, records: u64) -> (Running, String) {
    with_service(setup, ANY_PORT);
    let mut running = setup.serve(&[]);
    let address = address(&running);
    running.wait_for("serving");
    running.write(&lines(0..records));
    wait_until("appends", || {
        number(&setup.stats(), "appendedTotal") == records
    });
    (running, address)
}

/// `G-119`: without a script, and without anything from elsewhere.
#[test]
fn the_page_shows_the_numbers_by_itself() {
    let setup = Setup::lines_to_file("page");
    let (running, address) = served(&setup, 321);
    wait_until("delivery", || {
        ask(&address, "/").body.contains(&row("delivered", 321))
    });
    let answer = ask(&address, "/");
    let head = answer.head.to_ascii_lowercase();
    assert!(
        head.contains("content-type: text/html; charset=utf-8"),
        "{head}"
    );
    assert!(
        head.contains("content-security-policy: default-src 'none'"),
        "{head}"
    );
    let page = &answer.body;
    for text in [
        "<h2>telemetry</h2>",
        "<strong>file</strong>",
        "ok</span>",
        "serving",
    ] {
        assert!(page.contains(text), "{text} in {page}");
    }
    assert!(page.contains(&row("next offset", 321)) && page.contains(&row("to go", 0)));
    for elsewhere in ["http:", "https:", "src=", "url(", "@import"] {
        assert!(!page.contains(elsewhere), "{elsewhere} in {page}");
    }
    // What the script fetches is what stands in the document.
    let inner = ask(&address, "/main").body;
    assert!(inner.starts_with("<header>") && page.contains("</header>"));
    assert!(page.len() < 32 << 10, "{} bytes", page.len());
    running.end().expect(0);
}

/// `G-119`: the state, the last error and what happened.
#[test]
fn the_page_shows_what_is_wrong() {
    let setup = Setup::lines_to_file("page-wrong");
    std::fs::create_dir_all(setup.out()).unwrap();
    let (running, address) = served(&setup, 10);
    wait_until("the event", || {
        ask(&address, "/").body.contains("<h2>What happened</h2>")
    });
    let page = ask(&address, "/").body;
    for text in [
        "last error: Is a directory",
        "telemetry: sink file does not work: link",
        "<li class=\"degraded\">telemetry: sink file: the link is down; 10 records wait",
    ] {
        assert!(page.contains(text), "{text} in {page}");
    }
    drop(running);
}

/// Passes requests on. Calls `before` when the script asks. A browser also opens connections in advance.
fn between(address: String, before: impl Fn() + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().to_string();
    let serve = move |mut stream: TcpStream| {
        let mut line = String::new();
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let _ = lines.read_line(&mut line);
        let Some(path) = line.split(' ').nth(1).map(str::to_owned) else {
            return;
        };
        while lines.read_line(&mut line).is_ok_and(|len| len > 2) {}
        if path == "/main" {
            before();
        }
        let Answer { head, body, .. } = ask(&address, &path);
        let _ = stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes());
    };
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    own
}

/// The document as a browser has it after some seconds, and what it said about it.
fn browser(address: &str) -> Option<(String, String)> {
    let mut command = Command::new("chromium");
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args([
            "--enable-logging=stderr",
            "--v=0",
            "--dump-dom",
            "--window-size=390,844",
        ])
        .arg("--virtual-time-budget=5000")
        .arg(format!("http://{address}/"))
        .stdin(Stdio::null());
    let ended = command.output().ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = format!("{}\n{}", text(&ended.stderr), ended.status);
    Some((text(&ended.stdout), said))
}

/// In a browser: no error, and numbers that follow by themselves.
#[test]
fn a_browser_shows_it() {
    let setup = Setup::lines_to_file("page-browser");
    let (mut running, address) = served(&setup, 100);
    wait_until("delivery", || {
        ask(&address, "/").body.contains(&row("delivered", 100))
    });
    // More comes while the page is open: before its script asks for the first time.
    let input = Mutex::new(running.input.take());
    let server = address.clone();
    let more = move || {
        let Some(mut input) = input.lock().unwrap().take() else {
            return;
        };
        input.write_all(&lines(0..50)).unwrap();
        wait_until("delivery", || {
            ask(&server, "/").body.contains(&row("delivered", 150))
        });
        std::mem::forget(input);
    };
    let between = between(address, more);
    let Some((shown, said)) = browser(&between) else {
        eprintln!("NOT RUN: there is no browser (chromium); the page's text was looked at");
        return;
    };
    assert!(shown.contains(&row("delivered", 150)), "{shown}\n{said}");
    assert!(!said.contains("CONSOLE"), "{said}");
    let note = "id=\"note\" class=\"bad\" role=\"status\"></p>";
    assert!(shown.contains(note), "{shown}");
    running.signal(Signal::TERM);
    running.wait().expect(0);
}
