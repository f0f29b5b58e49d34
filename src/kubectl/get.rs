//! `get`: shows objects, and watches them.
//!
//! Follows `kubectl/pkg/cmd/get/get.go`.

use std::cmp::Ordering;

use clap::Args;
use futures::TryStreamExt;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::objects::Selection;
use super::output::{Output, without_managed_fields};
use super::session::{Event, JSON, Session, TABLE, with_query};
use super::table::{self, Layout};
use super::target::{self, Target};
use super::verb::Verb;
use crate::api::jsonpath::Template;

/// Flags of `get`.
#[derive(Args, Clone, Debug, Default)]
pub struct Get {
    #[command(flatten)]
    pub selection: Selection,
    /// Output: wide, yaml, json, name, jsonpath=..., custom-columns=...
    #[arg(short = 'o', long)]
    pub output: Option<String>,
    /// Show changes as they happen
    #[arg(short = 'w', long)]
    pub watch: bool,
    /// Show changes only, not what is there
    #[arg(long)]
    pub watch_only: bool,
    /// Show what kind of change it was
    #[arg(long)]
    pub output_watch_events: bool,
    /// Show all labels
    #[arg(long)]
    pub show_labels: bool,
    /// Show these labels as columns
    #[arg(short = 'L', long, value_delimiter = ',')]
    pub label_columns: Vec<String>,
    /// Show resource type in names
    #[arg(long)]
    pub show_kind: bool,
    /// Show managed fields in YAML and JSON
    #[arg(long)]
    pub show_managed_fields: bool,
    /// Leave the column names out
    #[arg(long)]
    pub no_headers: bool,
    /// Sort by the value that this JSONPath leads to
    #[arg(long, value_name = "JSONPATH")]
    pub sort_by: Option<String>,
    /// A missing object is no error
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Objects per request (the server's pages are always joined)
    #[arg(long, hide = true)]
    pub chunk_size: Option<u32>,
    /// Use the server's table (always so)
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub server_print: Option<bool>,
    /// GET this address and print the answer as it is
    #[arg(long, value_name = "PATH")]
    pub raw: Option<String>,
    /// Fetch this subresource
    #[arg(long)]
    pub subresource: Option<String>,
}

impl Verb for Get {
    const NAME: &'static str = "get";
    const ABOUT: &'static str = "Display one or many resources";

    async fn run(self, session: &Session) -> Result<i32> {
        if let Some(path) = &self.raw {
            session.print(&session.text(path, "*/*").await?)?;
            return Ok(0);
        }
        let output = Output::parse(self.output.as_deref())?;
        let targets = self.targets(session).await?;
        if self.watch || self.watch_only {
            return self.watch(session, &targets, &output).await;
        }
        match &output {
            Output::Table { wide } => self.tables(session, &targets, *wide).await,
            other => self.objects(session, &targets, other).await,
        }
    }
}

impl Get {
    async fn targets(&self, session: &Session) -> Result<Vec<Target>> {
        let files = &self.selection.files;
        if !files.filename.is_empty() || files.kustomize.is_some() {
            let found = super::objects::located(session, files).await?;
            return Ok(found
                .into_iter()
                .map(|found| Target { namespace: found.namespace, name: Some(found.name), resource: found.resource })
                .collect());
        }
        let targets = target::resolve(session, &self.selection.words, self.selection.all_namespaces).await?;
        if targets.iter().any(|target| target.name.is_some()) && !self.selection.query()?.is_empty() {
            return Error::usage("name cannot be provided when a selector is specified");
        }
        Ok(targets)
    }

    fn path(&self, target: &Target) -> String {
        match &self.subresource {
            Some(sub) => format!("{}/{sub}", target.path()),
            None => target.path(),
        }
    }

    fn layout(&self, wide: bool, kinds: bool) -> Layout {
        Layout {
            wide,
            headers: !self.no_headers,
            namespace: self.selection.all_namespaces,
            labels: self.show_labels,
            label_columns: self.label_columns.clone(),
            kinds: kinds || self.show_kind,
            events: self.output_watch_events,
        }
    }

    /// One object as the server has it; errors of one object do not keep the others from being shown.
    fn survive<T>(&self, session: &Session, failed: &mut bool, answer: Result<T>) -> Result<Option<T>> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if self.ignore_not_found && error.is_not_found() => Ok(None),
            Err(error) if error.status().is_some() => {
                session.flush();
                session.note(&error.to_string());
                *failed = true;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn tables(&self, session: &Session, targets: &[Target], wide: bool) -> Result<i32> {
        let several = targets.iter().any(|target| target.resource != targets[0].resource);
        let mut query = self.selection.query()?;
        if self.sort_by.is_some() {
            query.push(("includeObject", "Object"));
        }
        let (mut failed, mut blocks) = (false, Vec::<String>::new());
        let (mut at, mut any) = (0, false);
        while at < targets.len() {
            // Objects of one type stand in one table, however they were named.
            let mut last = at + 1;
            while last < targets.len() && targets[last].resource == targets[at].resource {
                last += 1;
            }
            let mut whole: Option<Value> = None;
            for target in &targets[at..last] {
                let answer = self.table(session, target, &query).await;
                let Some(mut next) = self.survive(session, &mut failed, answer)? else { continue };
                match &mut whole {
                    None => whole = Some(next),
                    Some(whole) => {
                        let rows = next.get_mut("rows").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
                        whole.get_mut("rows").and_then(Value::as_array_mut).into_iter().for_each(|all| all.extend(rows.iter().cloned()));
                    }
                }
            }
            if let Some(mut whole) = whole.filter(|whole| whole["rows"].as_array().is_some_and(|rows| !rows.is_empty())) {
                self.sort(&mut whole, "rows", "object")?;
                let layout = self.layout(wide, several);
                blocks.push(table::align(&table::lines(&whole, &whole["columnDefinitions"], &layout, &targets[at].resource, None)));
                any = true;
            }
            at = last;
        }
        session.print(&blocks.join("\n"))?;
        if !any && !failed && !self.ignore_not_found {
            session.note(&none_found(targets));
        }
        Ok(i32::from(failed))
    }

    /// All pages of a table.
    async fn table(&self, session: &Session, target: &Target, query: &[(&str, &str)]) -> Result<Value> {
        if target.name.is_some() {
            return Ok(table::from_answer(session.get(&with_query(&self.path(target), query), TABLE).await?, jiff::Timestamp::now()));
        }
        let mut whole: Option<Value> = None;
        let mut more = String::new();
        loop {
            let mut query = query.to_vec();
            query.push(("limit", "500"));
            if !more.is_empty() {
                query.push(("continue", &more));
            }
            let page = session.get(&with_query(&self.path(target), &query), TABLE).await?;
            let mut page = table::from_answer(page, jiff::Timestamp::now());
            let next = page["metadata"]["continue"].as_str().unwrap_or_default().to_string();
            match &mut whole {
                None => whole = Some(page),
                Some(whole) => {
                    let rows = page.get_mut("rows").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
                    whole.get_mut("rows").and_then(Value::as_array_mut).into_iter().for_each(|all| all.extend(rows.iter().cloned()));
                }
            }
            if next.is_empty() {
                return Ok(whole.expect("at least one page was read"));
            }
            more = next;
        }
    }

    async fn objects(&self, session: &Session, targets: &[Target], output: &Output) -> Result<i32> {
        let query = self.selection.query()?;
        let (mut failed, mut found) = (false, Vec::new());
        let alone = targets.len() == 1 && targets[0].name.is_some();
        for target in targets {
            let answer = match target.name {
                Some(_) => session.get(&self.path(target), JSON).await,
                None => session.list(&self.path(target), &query).await,
            };
            let Some(mut answer) = self.survive(session, &mut failed, answer)? else { continue };
            match answer.get_mut("items").and_then(Value::as_array_mut).filter(|_| target.name.is_none()) {
                Some(items) => {
                    let items = std::mem::take(items).into_iter();
                    found.extend(items.map(|item| super::objects::Found::new(&target.resource, item).object));
                }
                None => found.push(answer),
            }
        }
        if alone && found.is_empty() {
            return Ok(i32::from(failed));
        }
        let mut answer = match found.pop() {
            Some(only) if alone => only,
            last => {
                found.extend(last);
                json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": found})
            }
        };
        self.sort(&mut answer, "items", "")?;
        self.show(session, &mut answer, output)?;
        Ok(i32::from(failed))
    }

    fn show(&self, session: &Session, answer: &mut Value, output: &Output) -> Result<()> {
        if !self.show_managed_fields {
            without_managed_fields(answer);
        }
        let text = match output {
            Output::Columns(columns) => Some(columns.render(&super::output::items(answer), !self.no_headers)?),
            other => other.render(answer, None)?,
        };
        session.print(&text.unwrap_or_default())
    }

    /// Sorts the elements of `list` by `--sort-by`, read from their part `inner`.
    fn sort(&self, answer: &mut Value, list: &str, inner: &str) -> Result<()> {
        let Some(path) = &self.sort_by else { return Ok(()) };
        let path = Template::relaxed(path)?;
        let Some(elements) = answer.get_mut(list).and_then(Value::as_array_mut) else { return Ok(()) };
        let mut keyed = Vec::with_capacity(elements.len());
        for element in std::mem::take(elements) {
            let object = if inner.is_empty() { &element } else { &element[inner] };
            let key = path.values(object)?.first().map(|value| (*value).clone());
            keyed.push((key, element));
        }
        keyed.sort_by(|(a, _), (b, _)| order(a.as_ref(), b.as_ref()));
        *elements = keyed.into_iter().map(|(_, element)| element).collect();
        Ok(())
    }

    async fn watch(&self, session: &Session, targets: &[Target], output: &Output) -> Result<i32> {
        let [target] = targets else {
            return Error::usage("you may only specify a single resource type, or a single object, with --watch");
        };
        let by_name = target.name.as_ref().map(|name| format!("metadata.name={name}"));
        let all = Target { name: None, ..target.clone() };
        let mut query = self.selection.query()?;
        if let Some(selector) = &by_name {
            query.push(("fieldSelector", selector));
        }
        let (accept, wide) = match output {
            Output::Table { wide } => (TABLE, *wide),
            _ => (JSON, false),
        };
        let mut layout = self.layout(wide, false);
        let mut columns = Value::Null;
        // What is there; also its version, from which nothing is missed.
        let list = session.get(&with_query(&all.path(), &query), accept).await?;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_string();
        if target.name.is_some() && !self.watch_only && !self.ignore_not_found {
            let _exists = session.get(&target.path(), JSON).await?;
        }
        if !self.watch_only {
            self.show_event(session, target, output, Event { kind: "ADDED".into(), object: list }, &mut layout, &mut columns)?;
        }
        query.push(("resourceVersion", &version));
        let mut events = session.watch(&all.path(), &query, accept).await?;
        while let Some(event) = events.try_next().await? {
            if event.kind != "BOOKMARK" {
                self.show_event(session, target, output, event, &mut layout, &mut columns)?;
            }
        }
        Ok(0)
    }

    fn show_event(
        &self,
        session: &Session,
        target: &Target,
        output: &Output,
        event: Event,
        layout: &mut Layout,
        columns: &mut Value,
    ) -> Result<()> {
        let Event { kind, mut object } = event;
        if !matches!(output, Output::Table { .. }) {
            let listed = object.get_mut("items").and_then(Value::as_array_mut).filter(|_| object_is_list(&kind)).map(std::mem::take);
            for item in listed.unwrap_or_else(|| vec![object]) {
                let mut item = super::objects::Found::new(&target.resource, item).object;
                if matches!(output, Output::Yaml) {
                    session.print("---\n")?;
                }
                if self.output_watch_events {
                    item = json!({"type": kind, "object": item});
                }
                self.show(session, &mut item, output)?;
            }
            session.flush();
            return Ok(());
        }
        let answer = table::from_answer(object, jiff::Timestamp::now());
        if columns.is_null() && answer["columnDefinitions"].is_array() {
            *columns = answer["columnDefinitions"].clone();
        }
        if answer["rows"].as_array().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        let text = table::align(&table::lines(&answer, columns, layout, &target.resource, Some(&kind)));
        layout.headers = false;
        session.write(text.as_bytes())
    }
}

/// Only the first answer, which counts as added, may be a list.
fn object_is_list(kind: &str) -> bool {
    kind == "ADDED"
}

fn none_found(targets: &[Target]) -> String {
    match targets.iter().find_map(|target| target.namespace.as_deref()) {
        Some(namespace) => format!("No resources found in {namespace} namespace."),
        None => "No resources found".into(),
    }
}

/// Absent values first; quantities and times as what they mean; texts so that `a10` stands after `a9`.
fn order(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(Value::String(a)), Some(Value::String(b))) => {
            let quantity = |text: &str| crate::api::quantity::Quantity::parse(text).ok().map(|quantity| quantity.milli());
            match quantity(a).zip(quantity(b)) {
                Some((a, b)) => a.cmp(&b),
                None => natural(a, b),
            }
        }
        (Some(a), Some(b)) => match a.as_f64().zip(b.as_f64()) {
            Some((a, b)) => a.total_cmp(&b),
            None => a.to_string().cmp(&b.to_string()),
        },
    }
}

fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (one, two) = (digits(a), digits(b));
        if one > 0 && two > 0 {
            let (x, y) = (a[..one].trim_start_matches('0'), b[..two].trim_start_matches('0'));
            let numbers = x.len().cmp(&y.len()).then_with(|| x.cmp(y));
            if numbers.is_ne() {
                return numbers;
            }
            (a, b) = (&a[one..], &b[two..]);
            continue;
        }
        let (mut x, mut y) = (a.chars(), b.chars());
        match (x.next(), y.next()) {
            (Some(c), Some(d)) if c == d => (a, b) = (x.as_str(), y.as_str()),
            (c, d) => return c.cmp(&d),
        }
    }
}

#[cfg(test)]
#[path = "get_tests.rs"]
mod tests;
