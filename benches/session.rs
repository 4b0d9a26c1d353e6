//! What the prompt costs: start, completion, compiling a long script, a tensor operation from a script above its native
//! time, and loops of scalar steps beside plain Rhai's. `cargo bench --bench session`.

// A bench whose set-up fails has nothing to say.
#![allow(clippy::expect_used)]

use rhai::{Dynamic, Engine, OptimizationLevel, Scope};
use saerepl::session::{Session, SessionOptions};
use saerepl::tensor::{Arithmetic, Tensor};
use saerepl::work::Work;
use std::hint::black_box;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The best of some runs, in seconds.
fn best(runs: usize, mut f: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..runs {
        let begun = Instant::now();
        f();
        best = best.min(begun.elapsed().as_secs_f64());
    }
    best
}

fn session(work: &Work) -> Session {
    Session::new(work.clone(), SessionOptions::default())
}

/// About 176 KB: two thousand functions, with closures called by name and caught errors among them.
fn long_script() -> String {
    (0..2000)
        .map(|i| {
            format!("fn f{i}(a, h) {{ let b = a + {i}; try {{ b = h(b) * 2; }} catch (e) {{ b = 0; }} b + f{}(a, h) }}\n", i / 2)
        })
        .collect()
}

fn main() {
    let work = Work::silent(1).expect("a thread can be started");
    println!("session start              {:8.2} ms   (to the prompt: < 300)", 1e3 * best(20, || drop(black_box(session(&work)))));

    let mut set_up = session(&work);
    set_up
        .eval(
            "let model = load_model(\"demo\"); let t = zeros([2, 3]); let m = #{a: t}; let tab = table(#{mean: [1.0]}); \
             let long = arange(1000000).to_array(); let wide = #{}; for i in 0..200000 { wide[`key${i}`] = i; }",
            "setup",
        )
        .expect("set up");
    let places = [
        "",
        "model.cfg.d_",
        "unembed(d, model, #{f",
        "m.a.T.to",
        "tab.filter(|row| row.",
        "semantics(s, model, #{side: \"",
        "import \"std/",
        "long.map(|x| x",
        "long.ma",
        "wide.key19999",
        "wide.",
    ];
    for text in places {
        let time = best(50, || drop(black_box(set_up.complete(text, text.len()))));
        println!("completion of {text:22} {:6.3} ms   (< 30)", 1e3 * time);
    }

    let script = long_script();
    let mut compiling = session(&work);
    let mut n = 0;
    let time = best(10, || {
        n += 1;
        compiling.eval(&script, &format!("s{n}")).expect("the script compiles");
    });
    println!("compile {:6} bytes        {:8.1} ms   (< 200)", script.len(), 1e3 * time);

    let (a, b) = (Tensor::vector(vec![1.0; 8]), Tensor::vector(vec![2.0; 8]));
    let native = best(20, || {
        for _ in 0..100_000 {
            let _ = black_box(Tensor::arithmetic(Arithmetic::Add, a.clone(), b.clone(), &work));
        }
    }) / 1e5;
    let mut scripted = session(&work);
    scripted.eval("let a = ones([8]); let b = ones([8]);", "setup").expect("set up");
    let run = |session: &mut Session, text: &str| best(7, || drop(session.eval(text, "bench").expect("the loop runs")));
    let with = run(&mut scripted, "for i in 0..100000 { a + b; }");
    let without = run(&mut scripted, "for i in 0..100000 { a; }");
    println!(
        "tensor sum from a script   {:8.2} µs above its native {:.2} µs (< 2)",
        1e6 * ((with - without) / 1e5 - native),
        1e6 * native
    );

    // Plain Rhai, and, for information, plain Rhai that can be interrupted, which is what its progress hook is for.
    let mut plain = Engine::new();
    plain.set_optimization_level(OptimizationLevel::None);
    let mut stoppable = Engine::new();
    stoppable.set_optimization_level(OptimizationLevel::None);
    let flag = work.cancel_flag();
    stoppable.on_progress(move |_| flag.load(Ordering::Relaxed).then_some(Dynamic::UNIT));
    let step = "let x = 1.0; let y = 0.5; for i in 0..200000 { x = x * 1.0001 + y; }";
    let ast = plain.compile(step).expect("the loop compiles");
    let mut looping = session(&work);
    looping.eval("let z = 1; fn other() { z }", "setup").expect("set up");
    let theirs = |engine: &Engine| best(1, || engine.run_ast_with_scope(&mut Scope::new(), &ast).expect("the loop runs"));
    // In turn and in slices, five to a round, each round's ratio on its own: a noisy machine is as noisy for all.
    let mut rounds = [const { Vec::new() }; 5];
    for _ in 0..25 {
        let (mut bare, mut polled, mut ours) = (0.0, 0.0, 0.0);
        for _ in 0..5 {
            bare += theirs(&plain);
            polled += theirs(&stoppable);
            ours += run_once(&mut looping, step);
        }
        rounds.iter_mut().zip([ours, bare, polled, ours / bare, ours / polled]).for_each(|(all, one)| all.push(one));
    }
    let [ours, bare, polled, to_bare, to_polled] = rounds.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    });
    println!("10^6 scalar steps          {:8.1} ms", 1e3 * ours);
    println!("    plain Rhai             {:8.1} ms, ratio {to_bare:.3} (<= 1.05)", 1e3 * bare);
    println!("    that can be stopped    {:8.1} ms, ratio {to_polled:.3} (for information)", 1e3 * polled);
    let wide = Work::silent(0).expect("threads can be started");
    let mut stopping = session(&wide);
    let data = "let w = randn([12000, 2000]); let v = randn([20000000]); let t = table(#{a: randn([3000000])});";
    stopping.eval(data, "setup").expect("set up");
    for (what, text) in [
        ("a loop", "let n = 0; loop { n += 1; }"),
        ("a loop that catches", "loop { try { throw 1; } catch { } }"),
        ("a long product", "loop { w @ w.T; }"),
        ("a long sort", "v.sort()"),
        ("a long quantile", "loop { v.quantile(0.3); }"),
        ("the sort of a table", "loop { t.sort(\"a\"); }"),
        ("loads", "loop { load_model(\"demo\"); list_saes(\"demo\"); }"),
    ] {
        println!("stopping {what:20} {:6.1} ms   (< 50)", 1e3 * stopped(&mut stopping, text));
    }

    let shared = "for i in 0..1000000 { z = z * 1.0001 + 0.5; }";
    println!("10^6 steps, shared variable {:7.1} ms", 1e3 * run(&mut looping, shared));
}

/// From the request to stop to the end of the cell, the longest of some, in seconds.
fn stopped(session: &mut Session, text: &str) -> f64 {
    let mut longest = 0f64;
    for wait in [150, 210, 275, 330, 390] {
        let flag = session.work().cancel_flag();
        let (asked, ended) = std::thread::scope(|scope| {
            let watch = scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(wait));
                flag.store(true, Ordering::Relaxed);
                Instant::now()
            });
            let ran = session.eval(text, "bench");
            let ended = Instant::now();
            assert!(ran.is_err_and(|report| report.is_interrupted()), "{text}: ended before it was stopped");
            (watch.join().expect("the watch ends"), ended)
        });
        session.work().reset_cancel();
        longest = longest.max(ended.duration_since(asked).as_secs_f64());
    }
    longest
}

fn run_once(session: &mut Session, text: &str) -> f64 {
    best(1, || drop(session.eval(text, "bench").expect("the loop runs")))
}
