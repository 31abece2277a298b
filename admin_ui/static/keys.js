// Single-key shortcuts. Everything they do is a link or a field of the page as well, and whoever
// is disturbed by them switches them off (WCAG 2.1.4): then <body data-keys="off">.

const isTyping = (element) =>
  element.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName);

const search = () => document.querySelector("[data-search]");
const help = () => document.querySelector("dialog.help");
const rows = () => [...document.querySelectorAll("[data-row]")];

let going = false;

function go(letter) {
  const link = document.querySelector(`[data-go="${CSS.escape(letter)}"]`);
  if (link) link.click();
  return Boolean(link);
}

function move(step) {
  const all = rows();
  if (!all.length) return false;
  const at = all.findIndex((row) => row.classList.contains("here"));
  const next = all[Math.min(Math.max(at + step, 0), all.length - 1)];
  if (at >= 0) all[at].classList.remove("here");
  next.classList.add("here");
  const target = next.querySelector("a, summary");
  target.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
  return true;
}

function act(event) {
  if (going) {
    going = false;
    return go(event.key);
  }
  switch (event.key) {
    case "/":
      search()?.focus();
      return Boolean(search());
    case "?":
      help()?.showModal();
      return Boolean(help());
    case "g":
      going = true;
      return true;
    case "j":
      return move(1);
    case "k":
      return move(-1);
    case "t": {
      const day = document.querySelector("[data-as-of]");
      day?.focus();
      return Boolean(day);
    }
    default:
      return false;
  }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.key === "Escape") {
    const open = document.querySelector("details.menu[open]");
    if (open) {
      open.open = false;
      open.querySelector("summary").focus();
    } else if (isTyping(event.target)) {
      event.target.blur();
    }
    return;
  }
  if (document.body.dataset.keys === "off" || isTyping(event.target) || help()?.open) return;
  if (act(event)) event.preventDefault();
});

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]"))
    if (!menu.contains(event.target)) menu.open = false;
});
