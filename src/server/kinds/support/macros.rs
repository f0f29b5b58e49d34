//! Macros that let a simple kind cost a few lines. They expand to plain items of [`Strategy`](crate::server::registry::strategy::Strategy).

/// `kind!(ConfigMap: NAMESPACED { singular: "configmap", generation: false } items of the impl)`.
macro_rules! kind {
    ($type:ty: $base:ident { $($fact:ident: $value:expr),* $(,)? } $($body:tt)*) => {
        impl $crate::server::registry::strategy::Strategy for $type {
            const INFO: $crate::server::registry::strategy::Info = $crate::server::registry::strategy::Info {
                $($fact: $value,)*
                ..$crate::server::registry::strategy::Info::$base
            };
            $($body)*
        }
    };
}

/// The three `prepare_*` of a kind with a `status` that only `/status` writes.
macro_rules! separate_status {
    () => {
        fn prepare_create(&mut self) {
            self.status = Some(Default::default());
        }
        separate_status!(updates);
    };
    // Of the metadata, `/status` does not write this field.
    (but $kept:ident) => {
        fn prepare_create(&mut self) {
            self.status = Some(Default::default());
        }
        separate_status!(updates, but $kept);
    };
    // A kind with its own `prepare_create`.
    (updates $(, but $kept:ident)?) => {
        fn prepare_update(&mut self, old: &Self) {
            self.status = old.status.clone();
        }
        fn prepare_status(&mut self, old: &Self) {
            let sent = std::mem::replace(self, old.clone());
            self.metadata = sent.metadata;
            $(self.metadata.$kept = old.metadata.$kept.clone();)?
            self.status = sent.status;
        }
    };
}

/// `columns!(Pod; "Ready" string => |pod, _| cell, "IP" string wide => |pod, _| cell)`: the whole `fn columns`.
macro_rules! columns {
    ($type:ty; $($name:literal $kind:ident $($wide:ident)? : $description:literal => $cell:expr),* $(,)?) => {
        fn columns() -> &'static [$crate::server::registry::strategy::Column<Self>] {
            const COLUMNS: &[$crate::server::registry::strategy::Column<$type>] = &[
                $($crate::server::registry::strategy::Column {
                    name: $name,
                    kind: stringify!($kind),
                    format: if matches!($name.as_bytes(), b"Name") { "name" } else { "" },
                    priority: columns!(@priority $($wide)?),
                    description: $description,
                    cell: $cell,
                },)*
            ];
            COLUMNS
        }
    };
    (@priority) => { 0 };
    (@priority wide) => { 1 };
}
