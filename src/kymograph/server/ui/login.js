// A token in, a cookie that no script can read out.
const problem = document.getElementById("problem");
const field = document.getElementById("token");

// until here the form could only have put the token into the address
document.querySelector("#door button").disabled = false;
document.getElementById("door").addEventListener("submit", async (event) => {
  event.preventDefault();
  problem.hidden = true;
  try {
    const answer = await fetch("api/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: field.value.trim() }),
    });
    if (answer.ok) { location.replace("./"); return; }
    const { error } = await answer.json();
    problem.textContent = error.hint ? `${error.message}: ${error.hint}` : error.message;
  } catch {
    problem.textContent = "the server does not answer";
  }
  problem.hidden = false;
  field.select();
});
