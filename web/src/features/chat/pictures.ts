/** Pictures as models take them: data URLs, no larger than they look at. */

const MAX_SIDE_PX = 1536;
const MAX_BYTES = 25_000_000;

/** Raises with what is wrong in words. */
export async function pictureOf(file: File): Promise<string> {
  if (!file.type.startsWith("image/")) throw new Error(`${file.name} is no picture.`);
  if (file.size > MAX_BYTES) throw new Error(`${file.name} is larger than 25 MB.`);
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error(`${file.name} cannot be read as a picture.`);
  });
  const scale = Math.min(1, MAX_SIDE_PX / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  if (!context) throw new Error("This browser cannot draw.");
  context.fillStyle = "#fff"; // JPEG knows nothing transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.toDataURL("image/jpeg", 0.88);
}
