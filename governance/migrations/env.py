"""What Alembic runs: the steps, on the connection and transaction of `runner`."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes["metadata"],
    # In drafts our column types stand without their module, which the template imports from.
    user_module_prefix="",
)
context.run_migrations()
