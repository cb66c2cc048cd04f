// Tables are sorted by a click on a heading: first up, then down.
(() => {
  const value = text => {
    const number = /^[+-]?\d*\.?\d+(e[+-]?\d+)?(?=$|[\s%[(])/i.exec(text);
    return text === '-' || text === '' ? null : number ? Number(number[0]) : text;
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === 'number' && typeof b === 'number') return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  const sort = (table, heading) => {
    const headings = [...heading.parentNode.children];
    const down = heading.getAttribute('aria-sort') === 'ascending';
    headings.forEach(h => h.removeAttribute('aria-sort'));
    heading.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const column = headings.indexOf(heading);
    const rows = [...table.tBodies[0].rows].map(row => [value(row.cells[column].textContent), row]);
    // What is missing stays at the end.
    rows.sort(([a], [b]) => (down && a !== null && b !== null ? -compare(a, b) : compare(a, b)));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  };
  for (const heading of document.querySelectorAll('thead th')) {
    const button = document.createElement('button');
    button.append(...heading.childNodes);
    button.title = 'Sort';
    heading.append(button);
    button.addEventListener('click', () => sort(heading.closest('table'), heading));
  }
})();
