// What the examples in the documentation talk to, so that they run where there is no Redis: keys with strings, numbers and
// transactions, in 60 lines, on a port of its own until the process ends. The tests in tests/drivers use a real server.

fn redis_stand_in() -> String {
    use std::collections::HashMap;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::sync::{Arc, Mutex};

    fn request(client: &mut impl BufRead) -> Option<Vec<String>> {
        let mut line = String::new();
        let mut number = |client: &mut dyn BufRead| -> Option<usize> {
            line.clear();
            client.read_line(&mut line).ok()?;
            line.get(1..)?.trim_end().parse().ok()
        };
        let count = number(client)?;
        (0..count)
            .map(|_| {
                let mut word = vec![0; number(client)? + 2];
                client.read_exact(&mut word).ok()?;
                word.truncate(word.len() - 2);
                String::from_utf8(word).ok()
            })
            .collect()
    }

    fn answer(keys: &mut HashMap<String, String>, words: &[&str]) -> String {
        match *words {
            ["PING"] => "+PONG\r\n".to_owned(),
            ["PING", word] => format!("${}\r\n{word}\r\n", word.len()),
            ["SET", key, value, ..] => {
                keys.insert(key.to_owned(), value.to_owned());
                "+OK\r\n".to_owned()
            }
            ["GET", key] => keys.get(key).map_or("$-1\r\n".to_owned(), |v| format!("${}\r\n{v}\r\n", v.len())),
            ["STRLEN", key] => format!(":{}\r\n", keys.get(key).map_or(0, String::len)),
            ["DEL", key] => format!(":{}\r\n", u8::from(keys.remove(key).is_some())),
            ["INCR", key] | ["INCRBY", key, "1"] => match keys.get(key).map_or(Ok(0), |value| value.parse::<i64>()) {
                Ok(number) => {
                    keys.insert(key.to_owned(), (number + 1).to_string());
                    format!(":{}\r\n", number + 1)
                }
                Err(_) => "-ERR value is not an integer or out of range\r\n".to_owned(),
            },
            ["RESET"] => "+RESET\r\n".to_owned(),
            _ => "+OK\r\n".to_owned(),
        }
    }

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("redis://{}", listener.local_addr().expect("it listens"));
    let keys = Arc::new(Mutex::new(HashMap::new()));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let keys = Arc::clone(&keys);
            std::thread::spawn(move || {
                let mut client = BufReader::new(stream);
                let mut queue: Option<Vec<Vec<String>>> = None;
                while let Some(words) = request(&mut client) {
                    let mut keys = keys.lock().expect("no panic");
                    let mut run = |words: &[String]| {
                        let words: Vec<_> = words.iter().map(String::as_str).collect();
                        answer(&mut keys, &words)
                    };
                    let reply = match (words[0].as_str(), &mut queue) {
                        ("MULTI", None) => {
                            queue = Some(Vec::new());
                            "+OK\r\n".to_owned()
                        }
                        ("EXEC", Some(queued)) => {
                            let replies: String = queued.iter().map(|words| run(words)).collect();
                            let reply = format!("*{}\r\n{replies}", queued.len());
                            queue = None;
                            reply
                        }
                        (_, Some(queued)) => {
                            queued.push(words);
                            "+QUEUED\r\n".to_owned()
                        }
                        _ => run(&words),
                    };
                    if client.get_mut().write_all(reply.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    url
}
