let main=document.querySelector("main"),note=document.querySelector("#note");
async function look(){
if(document.hidden)return;
try{const answer=await fetch("main",{cache:"no-store"});
if(!answer.ok)throw 0;
main.innerHTML=await answer.text();note.textContent=""}
catch{note.textContent="no answer: what is shown is old"}}
setInterval(look,2000);
