// The page follows the system's choice of light or dark until the button is pressed.
const root = document.documentElement;
const button = document.getElementById("theme");
let dark = matchMedia("(prefers-color-scheme: dark)").matches;
const name = () => { button.textContent = dark ? "Light page" : "Dark page"; };
button.addEventListener("click", () => { dark = !dark; root.dataset.theme = dark ? "dark" : "light"; name(); });
name();
button.hidden = false;
// What a link leads to is unfolded.
const unfold = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let e = target; e; e = e.parentElement) if (e.matches("details")) e.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", unfold);
unfold();
