//! The one built program as its users meet it: exit statuses, messages, parameters, interruption, the prompt.

use assert_cmd::Command;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

const PROGRAM: &str = env!("CARGO_BIN_EXE_saerepl");

/// A folder with one script in it.
fn folder(script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("s.rhai"), script).unwrap();
    folder
}

/// Standard output, standard error and exit status.
pub type Ended = (String, String, i32);

pub fn program(at: &Path, arguments: &[&str], input: &str) -> Ended {
    let output = Command::new(PROGRAM).current_dir(at).args(arguments).write_stdin(input).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

fn run(script: &str, arguments: &[&str]) -> Ended {
    let folder = folder(script);
    program(folder.path(), &[&["run", "s.rhai"], arguments].concat(), "")
}

fn pipe(input: &str) -> Ended {
    program(tempfile::tempdir().unwrap().path(), &[], input)
}

#[test]
fn a_script_runs_with_its_parameters() {
    let script = "#!/usr/bin/env -S saerepl run\nlet n = param(\"n\", 2, \"how many\");\nprint(`${n * 2} ${out_dir()}`);\nn";
    assert_eq!(run(script, &[]), ("4 out/s\n".into(), String::new(), 0));
    assert_eq!(run(script, &["n=5", "--out", "there"]), ("10 there\n".into(), String::new(), 0));
}

/// Each shipped experiment on the demo: it ends, prints its nulls, and leaves the tables and figures it promises.
fn experiment(name: &str, arguments: &[&str], results: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    let (out, error, status) = program(folder.path(), &[&["run", script.to_str().unwrap()], arguments].concat(), "");
    assert_eq!(status, 0, "{error}");
    assert!(out.contains("null"), "{out}");
    // A script is read like a method section.
    let lines = std::fs::read_to_string(&script).unwrap().lines().count();
    assert!((40..=120).contains(&lines), "{name} has {lines} lines");
    for result in results {
        let path = folder.path().join("out").join(name.trim_end_matches(".rhai")).join(result);
        assert!(std::fs::metadata(&path).is_ok_and(|file| file.len() > 100), "{result} is missing");
    }
}

#[test]
fn experiment_1_runs_on_the_demo() {
    experiment(
        "exp1_unembedding.rhai",
        &["n_null=256", "layers=[0, 1, -1]", "heads=[0, 2]"],
        &["shares.csv", "heads.csv", "features.parquet", "shares.svg", "measures.png"],
    );
}

/// The example written from `?` help gives the shares that the experiment gives.
#[test]
fn the_core_of_experiment_1_takes_less_than_20_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let shares = |script: &str, out: &str| {
        let script = root.join(script);
        let (_, error, status) = program(folder.path(), &["run", script.to_str().unwrap(), "n_null=256", "--out", out], "");
        assert_eq!(status, 0, "{error}");
        let text = std::fs::read_to_string(folder.path().join(out).join("shares.csv")).unwrap();
        text.lines().map(|line| line.split(',').take(5).map(String::from).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let core = shares("examples/experiment1_core.rhai", "core");
    assert_eq!(core, shares("scripts/exp1_unembedding.rhai", "whole"));
    assert_eq!((core[0].join(" ").as_str(), core.len()), ("layer EE EE_null DU DU_null", 6));
    let text = std::fs::read_to_string(root.join("examples/experiment1_core.rhai")).unwrap();
    assert!(text.lines().count() < 20);
}

#[test]
fn experiment_2_runs_on_the_demo() {
    experiment(
        "exp2_attention.rhai",
        &["layers=0..2", "heads=[0, 3]"],
        &["heads.csv", "features.parquet", "participation.svg", "query_heads.png"],
    );
}

/// With thresholds from so few directions hardly any feature is semantic; a cell without any is said to be so.
#[test]
fn experiment_3_runs_on_the_demo() {
    experiment(
        "exp3_populations.rhai",
        &["n_null=256", "layers=1..3", "heads=0"],
        &["populations.csv", "features.parquet", "query_pre.svg"],
    );
}

#[test]
fn experiments_take_one_sae_at_its_own_layer() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let model = format!("model={}", fixtures.join("tiny-llama").display());
    let sae = format!("sae={}", fixtures.join("sae-v6-standard").display());
    experiment("exp2_attention.rhai", &[&model, &sae], &["heads.csv"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/exp1_unembedding.rhai");
    let here = tempfile::tempdir().unwrap();
    let (_, error, status) = program(here.path(), &["run", script.to_str().unwrap(), &model, &sae, "layers=0"], "");
    assert!(status == 1 && error.contains("belongs to layer 1, not to layer 0"), "{error}");
}

#[test]
fn a_fault_is_shown_with_its_line_its_caret_and_the_chain_of_calls() {
    let script = "// Head.\nfn inner(a) {\n    a.frobnicate()\n}\nfn outer(a) { inner(a + 1) }\n\nouter(1);\n";
    let (out, error, status) = run(script, &[]);
    assert_eq!((out.as_str(), status), ("", 1));
    assert_eq!(
        error,
        "\
error: integer has no method `frobnicate`
 --> s.rhai:3:7
  |
3 |     a.frobnicate()
  |       ^^^^^^^^^^
  |
note: in `inner` called here
 --> s.rhai:5:15
  |
5 | fn outer(a) { inner(a + 1) }
  |               -----
note: in `outer` called here
 --> s.rhai:7:1
  |
7 | outer(1);
  | -----
"
    );
}

#[test]
fn an_unknown_function_is_answered_with_the_nearest_and_its_signature() {
    let (_, error, status) = run("let a = 1;\nassrt(a == 1);", &[]);
    assert_eq!(status, 1);
    assert_eq!(
        error,
        "\
error: unknown function `assrt`
 --> s.rhai:2:1
  |
2 | assrt(a == 1);
  | ^^^^^
  |
help: did you mean `assert`? `assert(condition: bool, [message: string]) -> ()`
"
    );
}

#[test]
fn our_own_errors_stand_at_the_call_that_failed() {
    let (_, error, status) = run("let ok = 1;\nseed(-1);", &[]);
    assert_eq!(status, 1);
    assert_eq!(
        error,
        "\
error: seed: `seed` must be an integer from 0, not -1
 --> s.rhai:2:1
  |
2 | seed(-1);
  | ^^^^
"
    );
}

#[test]
fn an_imported_module_fails_in_its_own_file() {
    let folder = folder("import \"m\" as m;\nprint(m::twice(2));\nm::bad(1);");
    std::fs::write(folder.path().join("m.rhai"), "fn twice(x) { 2 * x }\nfn bad(x) {\n    x + nothing\n}\n").unwrap();
    let (out, error, status) = program(folder.path(), &["run", "s.rhai"], "");
    assert_eq!((out.as_str(), status), ("4\n", 1));
    assert!(error.starts_with("error: unknown variable `nothing`\n --> m.rhai:3:9\n"), "{error}");
    assert!(error.contains("note: in `bad` called here\n --> s.rhai:3:4\n"), "{error}");
}

#[test]
fn a_module_is_found_beside_the_script_wherever_it_runs_and_may_not_import_itself() {
    let folder = folder("import \"m\" as m;");
    std::fs::write(folder.path().join("m.rhai"), "import \"m\" as again;").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let script = folder.path().join("s.rhai");
    let (_, error, status) = program(elsewhere.path(), &["run", script.to_str().unwrap()], "");
    assert_eq!(status, 1);
    assert!(error.starts_with("error: `m` imports itself\n"), "{error}");
}

#[test]
fn a_wrong_value_names_the_parameter_the_text_and_what_would_be_right() {
    let script = "param(\"layers\", [0], \"which\");\nparam(\"k\", 1.5, \"how many\");";
    let (_, error, status) = run(script, &["layers=all"]);
    assert_eq!(status, 1);
    assert!(
        error.starts_with("error: parameter `layers`: \"all\" is not an array like [0, 2] or a range like 0..8\n"),
        "{error}"
    );
    let (_, error, _) = run(script, &["k=many"]);
    assert!(error.contains("parameter `k`: \"many\" is not a number") && error.contains("s.rhai:2:1"), "{error}");
}

#[test]
fn an_unknown_key_is_wrong_usage() {
    let (out, error, status) = run("print(\"never\");\nparam(\"layers\", 1, \"which\");", &["layer=2"]);
    assert_eq!((out.as_str(), status), ("", 2));
    assert_eq!(
        error,
        "\
error: s.rhai: the script declares no parameter `layer`
help: did you mean `layers`?
help: its parameters are: layers
"
    );
}

#[test]
fn a_declaration_that_cannot_be_read_stops_the_script_before_it_runs() {
    let (out, error, status) = run("print(\"never\");\nlet name = \"k\";\nparam(name, 1, \"which\");", &[]);
    assert_eq!((out.as_str(), status), ("", 1));
    assert!(error.starts_with("error: the name of a parameter must be written as text\n --> s.rhai:3:7\n"), "{error}");
}

#[test]
fn help_lists_what_the_script_declares_without_running_it() {
    let script = "#!/usr/bin/env -S saerepl run\n// What it is.\n//\n// How.\n\nprint(1);\nfn f() { param(\"k\", 2 * 5, \"tokens in each list\") }\nparam(\"model\", \"demo\", \"which model\");\n";
    let expected = "\
What it is.

How.

Usage: saerepl run s.rhai [key=value …] [--out DIR] [--threads N] [--device DEVICE] [--seed N] [--quiet]

Parameters:
  k=2 * 5       tokens in each list
  model=\"demo\"  which model

Results go to out/s unless --out says otherwise.
";
    assert_eq!(run(script, &["--help"]), (expected.into(), String::new(), 0));
}

#[test]
fn wrong_usage_has_status_2_and_a_missing_file_status_1() {
    let folder = folder("");
    for arguments in [&["frobnicate"][..], &["run"], &["run", "s.rhai", "no-value"], &["run", "s.rhai", "k=1", "k=2"]] {
        assert_eq!(program(folder.path(), arguments, "").2, 2, "{arguments:?}");
    }
    let (_, error, status) = program(folder.path(), &["run", "none.rhai"], "");
    assert_eq!((error.as_str(), status), ("error: none.rhai: no such file or folder\n", 1));
    std::fs::write(folder.path().join("binary.rhai"), b"let x = 1;\n\xff").unwrap();
    let (_, error, status) = program(folder.path(), &["run", "binary.rhai"], "");
    assert_eq!((error.as_str(), status), ("error: binary.rhai: this is no text: a script is UTF-8 (at byte 11)\n", 1));
}

#[test]
fn a_device_that_this_build_has_not_is_wrong_usage() {
    let folder = folder("print(1);");
    let on = |device: &str| program(folder.path(), &["run", "s.rhai", "--device", device], "");
    assert_eq!(on("cpu"), ("1\n".into(), String::new(), 0));
    assert_eq!(on("auto"), ("1\n".into(), String::new(), 0));
    for (name, what) in [("cuda", "this build has no device `cuda`\nhelp: build with"), ("tpu", "unknown device `tpu`\nhelp: ")] {
        let (out, error, status) = on(name);
        assert_eq!((out.as_str(), status), ("", 2));
        assert!(error.starts_with(&format!("error: {what}")), "{error}");
    }
}

#[test]
fn exit_ends_a_run_with_its_status_even_inside_try() {
    assert_eq!(run("print(1);\ntry { exit(3); } catch { print(2); }\nprint(3);", &[]), ("1\n".into(), String::new(), 3));
    assert_eq!(run("fn f() { exit() }\nf();\nprint(3);", &[]), (String::new(), String::new(), 0));
}

#[test]
fn output_goes_where_it_is_sent() {
    let (out, error, status) = run("print([1, #{a: \"b\"}]); eprint(\"note\"); show(\"text\"); print();", &[]);
    assert_eq!((out.as_str(), error.as_str(), status), ("[1, #{a: \"b\"}]\n\"text\"\n\n", "note\n", 0));
}

#[test]
fn piped_cells_share_variables_functions_and_imports_and_show_their_values() {
    let input = "let x = 40;\nfn add(a, b) {\n    a + b\n}\nadd(x, 2)\nans * 2\n\"quiet\";\nif false { 1 }\nelse { #{a: [1]} }\nimport \"std/experiments\" as exp;\nexp::indices((), 2, \"layer\")\n";
    assert_eq!(pipe(input), ("42\n84\n#{a: [1]}\n[0, 1]\n".into(), String::new(), 0));
}

#[test]
fn piped_input_stops_at_the_first_error_with_its_line_in_the_whole_input() {
    let (out, error, status) = pipe("1\nfn f(a) {\n    a + nowhere\n}\n\nf(2)\nprint(\"never\")\n");
    assert_eq!((out.as_str(), status), ("1\n", 1));
    assert!(error.starts_with("error: unknown variable `nowhere`\n --> <stdin>:3:9\n"), "{error}");
    assert!(error.contains("note: in `f` called here\n --> <stdin>:6:1\n"), "{error}");
    assert_eq!(pipe("let x = 1;\n?seed\n?exit\nx\n:quit\nnever").2, 0);
    assert!(pipe(":hlp\n1").1.contains("did you mean `:help`?"));
    for open in ["f(1,", "/* open", "\"open", "`open", "let x ="] {
        assert_eq!(pipe(open).2, 1, "{open}");
    }
}

#[test]
fn a_fault_is_told_in_piped_input_as_in_a_script() {
    for script in [
        "let l = [#{alpha: 1}];\nl[0].alhpa\n",
        "let m = #{alpha: #{beta: 1}};\nlet k = 2;\n\nm.alpha.betta + k\n",
        "let t = table(#{score: [1, 2]});\nt[\"scroe\"]\n",
        "let rows = [#{name: 1}];\nfor row in rows {\n  row.nmae;\n}\n",
        "fn f(row) {\n  row.nmae\n}\nlet r = #{name: 1};\nf(r)\n",
        "let list = [1, 2];\nlist.pusj(3)\n",
        "let n = 1;\nn + #{}\n",
        "/// Doc.\nfn one(a) { a }\none(1, 2)\n",
        "let value = 3;\nvlaue\n",
    ] {
        let ((_, piped, _), (_, ran, _)) = (pipe(script), run(script, &[]));
        assert!(ran.contains("s.rhai:"), "{ran}");
        assert_eq!(piped.replace("<stdin>", "s.rhai"), ran, "{script}");
    }
}

#[test]
fn comments_belong_to_what_follows_in_piped_input_and_a_byte_order_mark_to_nothing() {
    for (input, shown) in [
        ("/// doc of mine\nfn mine(a) { a }\nmine(1)\n", "1\n"),
        ("if false { 1 }\n// why\nelse { 2 }\n", "2\n"),
        ("\u{feff}let x = 3;\nx\n", "3\n"),
    ] {
        assert_eq!(pipe(input), (shown.into(), String::new(), 0), "{input}");
    }
}

#[test]
fn deep_scripts_end_with_an_error_and_not_with_the_process() {
    let nested = format!("{}1{}", "(".repeat(200_000), ")".repeat(200_000));
    let (_, error, status) = run(&nested, &[]);
    assert_eq!(status, 1);
    assert!(error.starts_with("error: the script is nested too deeply\n"), "{error}");
    let (_, error, status) = run(&format!("1{}", "+1".repeat(500_000)), &[]);
    assert_eq!(status, 1);
    assert!(error.starts_with("error: the script is nested too deeply\n"), "{error}");
    assert_eq!(run(&format!("print(1{})", "+1".repeat(19_000)), &[]).0, "19001\n");
    let (_, error, status) = run(&"1;".repeat(600_000), &[]);
    assert_eq!(status, 1);
    assert!(error.starts_with("error: the script has 1200000 bytes; more than 1048576 are not read\n"), "{error}");
    let (_, error, status) = run("fn f(n) { f(n + 1) }\nf(0);", &[]);
    assert_eq!(status, 1);
    assert!(error.starts_with("error: calls are nested too deeply\n"), "{error}");
    let deep =
        format!("fn f(n) {{ {}if n == 0 {{ 0 }} else {{ 1 + f(n - 1) }}{} }}\nprint(f(900));", "(".repeat(100), ")".repeat(100));
    assert_eq!(run(&deep, &[]).0, "900\n");
}

#[test]
fn the_status_of_piped_input_is_that_of_its_cells() {
    for (input, status) in [
        ("", 0),
        ("1\n", 0),
        ("!exit 3\nprint(\"goes on\")\n", 0),
        ("!exit 3\nnowhere\n", 1),
        ("nowhere\n!true\n", 1),
        (":hlp\n", 1),
        ("try { nowhere } catch {}\n", 0),
        ("exit(4)\nnowhere\n", 4),
        (":quit\nnowhere\n", 0),
        ("let x = [1,\n", 1),
        ("\"open\n", 1),
    ] {
        let (out, error, got) = pipe(input);
        assert_eq!(got, status, "{input}: {out}{error}");
        assert_eq!(input.starts_with("!exit"), error.contains("note: exit status: 3"), "{input}: {error}");
        assert_eq!(input.contains("goes on"), out == "goes on\n", "{input}: {out}");
    }
}

#[test]
fn piped_input_takes_time_in_proportion_to_its_lines() {
    let took = |lines: usize| {
        let input: String = (0..lines).map(|i| format!("let x{} = {i};\n", i % 50)).collect();
        let begun = std::time::Instant::now();
        let (out, error, status) = pipe(&(input + "x49\n"));
        assert_eq!((out, error, status), (format!("{}\n", lines - 1), String::new(), 0));
        begun.elapsed().as_secs_f64()
    };
    let (few, many) = (took(2000), took(20_000));
    // Ten times the lines; were it quadratic, a hundred times the time.
    assert!(many < 50.0 * few, "{few:.2} s, {many:.2} s");
    // One cell of as many lines.
    let list: String = (0..20_000).map(|i| format!("  {i},\n")).collect();
    assert_eq!(pipe(&format!("let l = [\n{list}];\nl.len()\n")).0, "20000\n");
}

#[cfg(unix)]
#[test]
fn piped_cells_run_as_they_come_and_an_interrupt_ends_the_wait() {
    let mut command = std::process::Command::new(PROGRAM);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut input, mut shown) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
    for (sent, answer) in [
        ("let x = 40;\nx + 2\n", "42"),
        ("fn f(a) {\n  a + 1\n}\n[f(x),\n 1]\n// then\n", "[41, 1]"),
        ("if false { 1 }\nelse { 2 }\n", "2"),
        ("[1, 2, 3]\n  .len()\n", "3"),
        ("!cat\n\"the rest is no command's\"\n", "\"the rest is no command's\""),
    ] {
        input.write_all(sent.as_bytes()).unwrap();
        assert_eq!(shown.next().unwrap().unwrap(), answer, "{sent}");
    }
    // What the terminal's Ctrl-C sends.
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!((error.as_str(), child.wait().unwrap().code()), ("interrupted\n", Some(130)));
}

#[test]
fn a_byte_that_is_no_text_stops_piped_input_at_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let input = b"print(1)\nfn f() {\n  \"caf\xe9\"\n}\nprint(2)\n".to_vec();
    let output = Command::new(PROGRAM).current_dir(folder.path()).write_stdin(input).output().unwrap();
    assert_eq!((output.stdout, output.status.code()), (b"1\n".to_vec(), Some(1)));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("error: <stdin>: line 3 is no text: a script is UTF-8 (at byte 24)\n"), "{error}");
}

#[test]
fn nothing_but_text_goes_into_a_pipe_and_a_closed_one_is_quiet() {
    let folder = folder("for i in 0..100000 { print(i); }");
    let mut child = std::process::Command::new(PROGRAM)
        .current_dir(folder.path())
        .args(["run", "s.rhai"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!((line.as_str(), error.as_str(), child.wait().unwrap().code()), ("0\n", "", Some(0)));
    assert!(!run("nothing", &[]).1.contains('\x1b'));
}

/// A native product of some seconds, begun again and again.
#[cfg(unix)]
const NATIVE: &str = "let a = randn([3000, 3000]);\nprint(\"started\");\nloop { a.matmul(a); }";

#[cfg(unix)]
#[test]
fn an_interrupt_stops_loops_and_native_work_at_once_with_status_130() {
    let interrupted = |script: &str| {
        let folder = folder(script);
        let mut child = std::process::Command::new(PROGRAM)
            .current_dir(folder.path())
            .args(["run", "s.rhai"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let asked = Instant::now();
        let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let status = child.wait().unwrap();
        let took = asked.elapsed().as_secs_f64() * 1e3;
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert_eq!(status.code(), Some(130), "{script}");
        assert!(error.starts_with("error: interrupted\n"), "{error}");
        took
    };
    for script in ["print(\"started\");\nlet n = 0;\nloop { try { n += 1; throw n; } catch { } }", NATIVE] {
        let waits = [(); 3].map(|()| interrupted(script));
        eprintln!("the program ended after {waits:.0?} ms");
        // The promise is 50 ms to the end of the work, which `benches/session.rs` measures. Here other tests share the cores:
        // what goes on for seconds was not stopped.
        assert!(waits.iter().all(|wait| *wait < 10_000.0), "{script}: {waits:.0?} ms");
    }
}

#[test]
fn info_says_what_a_model_or_an_sae_is() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let facts = |arguments: &[&str]| program(here, &[&["info"], arguments].concat(), "");
    let (out, error, status) = facts(&["tests/fixtures/tiny-llama.gguf"]);
    assert_eq!((error.as_str(), status), ("", 0));
    assert!(out.contains("\narchitecture     llama\n"), "{out}");
    assert!(facts(&["tests/fixtures/sae-v6-jumprelu"]).0.contains("\nhook           blocks.1.hook_resid_post\n"));
    // The same at the prompt.
    let sae = here.join("tests/fixtures/sae-v6-gated");
    let (out, error, status) =
        pipe(&format!("let sae = load_sae({:?}); let model = load_model(\"demo\");\n?sae\n?model\n", sae.display()));
    assert_eq!(status, 0, "{error}");
    let gated = [
        "b_gate [21] f32",
        "\n    activation     gated\n",
        "\n    b_dec          subtracted from the input, added to the output",
    ];
    for fact in [
        &gated[..],
        &["fits           trained on tiny-llama; models with a d_model of 12 and at least 2 layers", "architecture     llama"],
    ]
    .concat()
    {
        assert!(out.contains(fact), "{fact}: {out}");
    }
    let (_, error, status) = facts(&["nowhere"]);
    assert_eq!(status, 1);
    assert!(error.starts_with("error: nowhere: no such file or folder\n") && !error.contains("SAE"), "{error}");
}

#[test]
fn a_property_a_native_value_does_not_have_is_answered_with_those_it_has() {
    let (_, error, status) = run("let t = zeros([2]);\nt.shpe", &[]);
    assert_eq!(status, 1);
    assert_eq!(
        error.lines().take(7).collect::<Vec<_>>().join("\n"),
        "\
error: Tensor has no property `shpe`
 --> s.rhai:2:3
  |
2 | t.shpe
  |   ^^^^
  |
help: did you mean `shape`?"
    );
    assert!(run("let t = zeros([2]);\nt.sum", &[]).1.contains("help: `sum` is a method: call it with `.sum(…)`"));
}

#[test]
fn doc_prints_the_reference_a_page_and_what_is_near() {
    let folder = tempfile::tempdir().unwrap();
    let (out, error, status) = program(folder.path(), &["doc"], "");
    assert_eq!((error.as_str(), status), ("", 0));
    assert!(out.starts_with("# What scripts can call\n") && out.contains("\n### `Tensor.topk("), "{out}");
    assert!(program(folder.path(), &["doc", "unembed"], "").0.starts_with("unembed(dict: Dictionary"));
    let (_, error, status) = program(folder.path(), &["doc", "unembedd"], "");
    assert_eq!(status, 1);
    assert!(error.contains("did you mean `unembed`?"), "{error}");
    assert_eq!(program(folder.path(), &["doc", "--out", "made"], "").2, 0);
    for file in ["reference.md", "saerepl.d.rhai"] {
        assert!(std::fs::metadata(folder.path().join("made").join(file)).unwrap().len() > 10_000, "{file}");
    }
}

#[test]
fn the_prompt_writes_where_out_says() {
    let folder = tempfile::tempdir().unwrap();
    let input = "save(tensor([1, 2]), \"x.npy\")\n:reset\nout_dir()\n";
    let (out, error, status) = program(folder.path(), &["--out", "o2"], input);
    assert_eq!((error.as_str(), status), ("", 0));
    assert!(out.contains("o2/x.npy") && out.ends_with("\"o2\"\n") && folder.path().join("o2/x.npy").is_file(), "{out}");
    let (_, error, status) = program(folder.path(), &["--out", "o3", "doc"], "");
    assert!(status == 2 && error.contains("--out o3"), "{error}");
}

#[test]
fn faults_of_timed_cells_name_the_line_of_the_input() {
    for (input, place) in [
        ("1\n\n:time nowhere\n", "<stdin>:3:7"),
        ("1\n:timeit  nowhere\n", "<stdin>:2:10"),
        ("1\n:time if true {\n  nowhere\n}\n", "<stdin>:3:3"),
        (":time fn f(x) { x.nothing }\n:timeit f(1)\n", "<stdin>:2:9"),
    ] {
        let (_, error, status) = pipe(input);
        assert!(status == 1 && error.contains(place) && !error.contains("In["), "{place}: {error}");
    }
}

#[test]
fn a_session_comes_back_in_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = "let n = 2; let f = |x| x * n; let fs = [f, |x| f(x) + 1];\nfn g(x) { f(x) + n }\nlet t = tensor([[1.5, 0.0 / 0.0]]); \
                 let tab = table(#{a: [\"x\", \"y\"], b: [1, 2]});\nlet model = load_model(\"demo\"); \
                 let basis = token_basis(model, \"embed\").select([3, 5]); let fig = plot::line([1, 4], #{title: \"kept\"}); let lost = timestamp(); \
                 let named = |names| basis.with_labels(table(#{ feature: [3, 5], label: names })); \
                 let one = named([\"a\", \"b\"]); let other = named([\"c\", \"d\"]); \
                 let own = directions(tensor([[1.0, 0.5]]));\n:session save s.session\n";
    let (out, error, status) = program(folder.path(), &[], first);
    assert_eq!(status, 0, "{error}");
    assert!(out.contains("`lost` is not kept: a timestamp cannot be kept"), "{out}");
    let second = ":session load s.session\n[f(3), fs[0].call(4), fs[1].call(4), g(5)]\nn = 10\ng(5)\n[t.isnan().to_array(), tab[\"a\"]]\n\
                  basis.W_dec.shape == [2, model.cfg.d_model]\n[one, other].map(|d| unembed(d, model, #{k: 2}).table()[\"label\"])\nown.W_dec\nfig.title\n";
    let (out, error, status) = program(folder.path(), &[], second);
    assert_eq!(status, 0, "{error}");
    let shown: Vec<&str> = out.lines().skip(1).collect();
    assert_eq!(
        shown,
        [
            "[6, 8, 9, 12]",
            // The closure that `g` calls shares `n` as it did where it was written: 5 * 10 + 10.
            "60",
            "[[[false, true]], [\"x\", \"y\"]]",
            "true",
            "[[\"a\", \"b\"], [\"c\", \"d\"]]",
            "Tensor [1, 2] f32",
            "[[1.0000, 0.5000]]",
            "\"kept\""
        ],
        "{out}"
    );
}

/// The session recorded in the README gives what stands there.
#[test]
fn the_session_in_the_readme_is_true() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let block = readme.split("```text\n").find(|block| block.starts_with("In[1]: ")).unwrap().split("```").next().unwrap();
    let (typed, shown): (Vec<&str>, Vec<&str>) = block.lines().partition(|line| line.starts_with("In["));
    let typed: Vec<&str> = typed.iter().map(|line| line.split_once(": ").unwrap().1).collect();
    assert!(typed.len() > 5);
    let (out, error, status) = pipe(&(typed.join("\n") + "\n"));
    assert_eq!((out.lines().collect::<Vec<_>>(), error.as_str(), status), (shown, "", 0));
}

#[test]
fn a_tilde_is_the_home_folder_wherever_files_are_named() {
    let home = tempfile::tempdir().unwrap();
    let at = home.path().join("work");
    std::fs::create_dir_all(&at).unwrap();
    std::fs::write(home.path().join("t.txt"), "text").unwrap();
    std::fs::write(home.path().join("t.csv"), "a\n1\n2\n").unwrap();
    std::fs::write(home.path().join("mine.rhai"), "fn two() { 2 }").unwrap();
    let piped = |input: &str| {
        let output = Command::new(PROGRAM).current_dir(&at).env("HOME", home.path()).write_stdin(input).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (out, error) = piped("save(tensor([1, 2]), \"x.npy\"); save(tensor([3, 4]), \"~/x.npy\")\n");
    assert!(out.is_empty() && error.contains("\"~/x.npy\" must be a name below the output folder"), "{out}{error}");
    std::fs::rename(at.join("out/x.npy"), home.path().join("x.npy")).unwrap();
    let (out, error) = piped(
        "import \"~/mine\" as mine;\n[load_npy(\"~/x.npy\").sum(), load_texts(\"~/t.txt\"), load_table(\"~/t.csv\").len, mine::two()]\n\
         :session save ~/q.session\n:session save \"quoted.session\"\n:save ~/s\n:run ~/s.rhai\n:session load '~/q.session'\nans\n",
    );
    assert!(error.is_empty(), "{error}");
    assert_eq!(out.matches("[3, [\"text\"], 2, 2]").count(), 2, "{out}");
    assert!(home.path().join("q.session").is_file() && home.path().join("s.rhai").is_file(), "{out}");
    assert!(at.join("quoted.session").is_file() && !at.join("~").exists());
}
