"""The views of the console: one module a group of pages. `admin_ui.console.surface` routes them."""
